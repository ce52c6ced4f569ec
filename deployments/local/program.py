"""One program of the local stack, as data: who starts it is another module's business."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.platforms.process import supervisor


@dataclass(frozen=True)
class Program(supervisor.Program):
    """A program of the stack: it listens somewhere, and tells when it is ready.

    Attributes:
        ports: Names of the ports that it listens on.
        health: URL that answers 200 once the program is ready; `tcp://…`: one that is listened on.
    """

    ports: tuple[str, ...] = ()
    health: str | None = None
