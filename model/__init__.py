"""The user's part: the stages of the pipeline in dvc.yaml, run in the model environment."""
