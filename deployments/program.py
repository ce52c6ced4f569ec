"""One program of the local stack, as data: who starts it is another module's business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """A program that the process runner keeps alive.

    Attributes:
        name: Its name, also of its log file.
        argv: Command and arguments; never a secret, every user of the machine can read them.
        directory: Working directory.
        environment: Variables beside the inherited ones.
        ports: Names of the ports that it listens on.
        health: URL that answers 200 once the program is ready.
        autostart: Whether it starts together with the process runner.
        stop_seconds: How long it may take to stop before it is killed.
        priority: Lower ones start first and stop last.
    """

    name: str
    argv: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[str, ...] = ()
    health: str | None = None
    autostart: bool = True
    stop_seconds: int = 10
    priority: int = 100
