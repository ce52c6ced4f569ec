"""Exit codes of `slipway`."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of all subcommands; 2 is Typer's own."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PERSON = 3
    DIFFERS = 4
    INTERRUPTED = 130


EXPLANATION = (
    "Exit codes: 0 done; 1 failed, the message names the next command; 2 wrong usage; 3 a person"
    " has to act (a deploy waits for approval, the gate rejected a model); 4 the server differs"
    " (apply --dry-run --exit-code); 130 interrupted while watching, the run goes on."
)
