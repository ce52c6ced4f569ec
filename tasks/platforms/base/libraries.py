"""Shared libraries that a model server could not load, from the error of its C library.

Python hands that error on as the text of an ImportError and has no other data of it. The server's
own imports may be what fails, so nothing of ours can catch it there.
"""

from __future__ import annotations

import re

from tasks.core.errors import TerminalError
from tasks.platforms.base.no_answer import UNCHANGED

_NAME = r"(?P<library>lib[\w.+-]+?\.so(?:\.\d+)*)"
_MESSAGES = (
    # glibc; Python sets no locale for messages, so that they are in English.
    re.compile(rf"{_NAME}: cannot open shared object file"),
    # musl
    re.compile(rf"Error loading shared library {_NAME}:"),
)


def missing_library(log: str) -> str | None:
    """Return the shared library that a server lacked, None if it lacked none."""
    matches = (pattern.search(log) for pattern in _MESSAGES)
    return next((match["library"] for match in matches if match), None)


def library_error(log: str, base: str) -> TerminalError | None:
    """Explain the end of a server that lacked a shared library.

    Args:
        log: The last lines of the server.
        base: Base image of its image; empty for a server of the worker's own host.

    Returns:
        The error; None if it lacked none.
    """
    library = missing_library(log)
    if library is None:
        return None
    if base:
        where = f"base image {base}"
        next_step = (
            f"set `base` in the environment's file to an image with {library}, or install it in"
            " yours, then deploy again"
        )
    else:
        where = "the worker's host"
        next_step = (
            f"install the system's package with {library} on the worker's host, then deploy again"
        )
    return TerminalError(
        f"{where} lacks the shared library {library}, which the model needs:\n{log}",
        state=UNCHANGED,
        next_step=next_step,
    )
