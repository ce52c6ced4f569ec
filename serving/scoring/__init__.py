"""Bulk predictions: `python -m serving.scoring JOB`, with the reading and the checks of requests.

`cutting.py` cuts files into chunks, of which `layout.py` finds the rows; `cells.py` reads their
cells, `chunks.py` predicts one chunk, `lines.py` and `parquet_files.py` write it, `__main__.py`
hands chunks to processes, `remote.py` to other hosts.
"""
