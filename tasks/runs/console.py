"""What a run writes to its console, which is its worker's log."""

from __future__ import annotations

import functools
import logging

from prefect.logging.handlers import PrefectConsoleHandler


def outlive_reader() -> None:
    """Let this process go on when nobody reads its console any more.

    A worker that is killed leaves its runs without a reader. The console of `rich`, through which
    Prefect logs, would end the process at the next line with `SystemExit`, and a release half-way.
    Such lines are dropped; the Prefect server has them all the same.
    """
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):  # some entries are no loggers
            if isinstance(handler, PrefectConsoleHandler):
                console = handler.console
                silence = functools.partial(setattr, console, "quiet", True)
                console.on_broken_pipe = silence  # type: ignore[method-assign]
