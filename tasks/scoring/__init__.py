"""Bulk predictions: a source, a version, a result that is published in one move.

It may import `training` and what is below it.
"""
