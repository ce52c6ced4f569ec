"""The local stack: the production code with small servers, in one folder on one machine.

`layout` says where everything is, `lifecycle` starts and stops it, `stack` is what others use of
both. One file describes each program as data (`postgres`, `object_store`, `gateway`, …) and
`programs` lists them; `supervisor` keeps them alive. `origin`, `post_receive` and `image_registry`
stand in for GitHub and a container registry. Imports the catalogue, the client of the Prefect API
and `tasks`; only the command line and tests import it.
"""
