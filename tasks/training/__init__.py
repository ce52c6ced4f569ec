"""From data to a candidate on origin: the DVC pipeline, the gate, the push of refs.

It may import `package`, `bucket`, `repository`, `runs` and `core`.
"""
