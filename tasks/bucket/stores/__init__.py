"""Kinds of object stores: one folder for each, a row in `catalogue.py`.

What they share is in `base/`. Each knows its block, its client, and what its errors mean.
"""
