"""The kinds of things that `apply` makes equal, one file each, behind `kind.py`."""
