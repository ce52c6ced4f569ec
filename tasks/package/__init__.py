"""A saved model as its commit describes it: metadata, runtime to install, bundle to serve.

It may import `bucket`, `repository`, `runs` and `core`. It reads MLEM's metadata, and loads no
model.
"""
