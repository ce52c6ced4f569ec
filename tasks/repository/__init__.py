"""Git on origin: clones to work in, model versions, and the history of releases as tags.

It may import `runs` and `core`. Flows run Git through this room alone.
"""
