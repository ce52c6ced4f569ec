"""One program of the local stack, as data: another module starts it."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.platforms.process import supervisor


@dataclass(frozen=True)
class Program(supervisor.Program):
    """A program of the stack, which may say when it is ready.

    Attributes:
        health: URL that answers 200 once the program is ready; `tcp://…`: one that is listened on.
    """

    health: str | None = None
