"""Bulk predictions: `python -m serving.scoring JOB`, with the reading and the checks of requests.

`cutting.py` cuts files into chunks, `cells.py` reads their cells, `chunks.py` predicts and writes
one chunk, `__main__.py` hands chunks to processes.
"""
