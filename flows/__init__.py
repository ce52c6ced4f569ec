"""The flows: the order of the tasks."""
