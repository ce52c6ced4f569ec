"""The flows: the order of the tasks."""

from tasks.runs.console import outlive_reader

outlive_reader()  # before a run is told that it has begun
