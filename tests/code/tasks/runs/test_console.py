"""A run goes on when its worker, which reads its console, is killed."""

from __future__ import annotations

import io
import logging

import pytest
from prefect.logging.handlers import PrefectConsoleHandler

from tasks.runs.console import outlive_reader


class Unread(io.StringIO):
    """The end of a pipe whose other end is closed."""

    def flush(self) -> None:
        raise BrokenPipeError


def test_lines_that_nobody_reads_end_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.Logger("of-a-run")
    logger.addHandler(handler := PrefectConsoleHandler(Unread()))
    monkeypatch.setitem(logging.root.manager.loggerDict, logger.name, logger)
    with pytest.raises(SystemExit):
        handler.console.print("the line that ends a process")
    outlive_reader()
    handler.console.quiet = False
    logger.warning("one")
    logger.warning("two")
