"""The resources of a Prefect server that this repository declares.

`resources/` has one file a kind; `difference` compares the declared with the existing.
"""
