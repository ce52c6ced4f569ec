"""What a Prefect server has of this repository, declared in `prefect.yaml` and here.

`resources/` has one file a kind; `difference` compares what should be with what is.
"""
