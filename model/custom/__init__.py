"""Transformers and estimators of your own, named in params.yaml as model.custom.<module>.<Class>.

Their source travels inside the model's `.mlem` file, so the model loads where this folder is not.
"""
