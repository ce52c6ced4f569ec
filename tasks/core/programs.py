"""Programs that are modules of this checkout: the last line of each is an object of JSON. Pure."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.core.commands import Argv
from tasks.core.settings import CHECKOUT

VARIABLES = {"PYTHONPATH": str(CHECKOUT)}  # of each of them


def run_module(module: str, *arguments: str | Path) -> Argv:
    """Make the command of a program.

    With -P it imports nothing from where it runs, which may be a workspace: that has modules of
    these names, too, of the commit.
    """
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]
