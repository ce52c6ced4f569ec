"""Targets: one file per platform, all behind the protocol in `protocol.py`."""
