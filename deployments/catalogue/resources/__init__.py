"""The kinds of resources that `apply` makes equal, one file each, behind `kind.py`."""
