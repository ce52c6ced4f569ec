"""GTO in forked processes: each of its commands imports half a second of modules otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.core import commands
from tests.fork_server import ForkServer

_GTO = "import sys; from gto.cli import app; sys.exit(app())"


@pytest.fixture(scope="module")
def gto_forks() -> Iterator[ForkServer]:
    forks = ForkServer(["gto.cli"], os.environ)
    yield forks
    forks.close()


@pytest.fixture(autouse=True)
def _fork_gto(gto_forks: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run GTO as flows do, but for its start; the tests of flows run the program itself."""
    run = commands.run

    async def fork_or_run(
        argv: commands.Argv, *, timeout: float, **options: Any
    ) -> commands.CommandResult:
        if argv[0] != "gto":
            return await run(argv, timeout=timeout, **options)
        environment = commands._environment(options.get("env"), options.get("hide", ()))
        folder: Path = options["cwd"]
        process = gto_forks.start(_GTO, argv[1:], environment, folder)
        with process.stdout as output:
            text = output.read()
        return commands.CommandResult(tuple(argv), process.wait(timeout), text, "", 0.0)

    monkeypatch.setattr(commands, "run", fork_or_run)
