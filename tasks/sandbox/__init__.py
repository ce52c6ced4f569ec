"""The sandbox: how code of a ref is started (stages, preflight, servers), and what it may see.

`box.py` describes a box, `bubblewrap.py` finds the program that makes it, `seccomp.py` filters the
system calls of a server, `launcher.py` runs in a process of its own beside each box, `server.py`
inside the box of a model server.
"""
