"""The flows: what happens, in order."""
