"""Models as processes on the worker's host, kept alive by supervisord behind the proxy."""
