"""Capabilities that flows are made of: one file per capability, nothing that decides order."""
