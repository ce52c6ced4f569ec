"""Models as containers of a Docker engine, behind the same proxy as `process`."""
