"""Evidently's report on a window: made in an environment of its own, in the box.

Only this module knows Evidently, and it meets it as a program: Evidently needs another pandas than
models do. It is shown the window's rows, and rows drawn from the profile: no row of the training
data leaves the pipeline.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tasks.core import commands
from tasks.core.errors import SlipwayError, TerminalError
from tasks.core.fingerprint import fingerprint
from tasks.core.settings import CHECKOUT, Settings
from tasks.monitoring.drift import Reference, to_number
from tasks.monitoring.profile import OTHERS, Column
from tasks.monitoring.records import Value
from tasks.monitoring.window import Answer
from tasks.package.environment import make_environment, read_lock, write_lock
from tasks.runs.retrying import capability
from tasks.sandbox.box import Box, start_in

_PROJECT = CHECKOUT / "evidently_report"
_PROGRAM = _PROJECT / "make_report.py"
_STATE = "Slipway's own report is complete"
_SECONDS = 900.0
_MOST_ROWS = 10_000
_MOST_BYTES = 64 << 20  # of the page; usual are 4 MB
# What few clients have sent may be a name: the report is read by more people than the log.
_LEAST_ROWS = 5
_PREDICTION = "(prediction)"
# The page is a program: no text of a client may end it and begin another.
_SIGNS = str.maketrans(dict.fromkeys("<>&\"'`\\", "_"))

Kind = str  # "number" or "category"
Table = dict[str, list[Value]]


@dataclass(frozen=True)
class EvidentlyPage:
    """Evidently's report, or why there is none.

    Attributes:
        content: The page; empty if there is none.
        problem: What failed; empty if nothing did.
    """

    content: bytes = b""
    problem: str = ""


async def try_evidently(reference: Reference, answers: Sequence[Answer]) -> EvidentlyPage:
    """Make Evidently's report; if that fails, say why: the window is judged already.

    Args:
        reference: The training rows.
        answers: The rows of the window.
    """
    try:
        return EvidentlyPage(await make_page(reference, answers))
    except SlipwayError as error:
        commands.run_logger().warning("Evidently's report was not made: %s", error)
        return EvidentlyPage(problem=error.what)


@capability("make Evidently's report", timeout=2 * _SECONDS + 60)
async def make_page(reference: Reference, answers: Sequence[Answer]) -> bytes:
    """Make Evidently's report on a window, as one page of HTML.

    Args:
        reference: The training rows.
        answers: The rows of the window.

    Raises:
        TerminalError: Evidently cannot be installed, or fails.
        TransientError: The package index does not answer.
    """
    python = await _install()
    with tempfile.TemporaryDirectory(prefix="slipway-evidently-") as folder:
        work = Path(folder)
        tables, page = work / "tables.json", work / "page.html"
        content = await asyncio.to_thread(make_tables, reference, answers)
        tables.write_text(json.dumps(content), encoding="utf-8")
        result = await commands.run(
            start_in(make_box(python, work), [str(python), str(_PROGRAM), str(tables), str(page)]),
            timeout=_SECONDS,
            cwd=work,
            log=False,
        )
        if result.code or not page.is_file() or page.stat().st_size > _MOST_BYTES:
            last = (result.stderr.strip() or "no page").splitlines()[-1]
            raise TerminalError(
                f"Evidently failed on the window: {last}",
                state=_STATE,
                next_step="run `monitor` again on the same window; if it fails again, set"
                " `monitor.evidently` to false in the environment's file",
            )
        return page.read_bytes()


def make_box(python: Path, work: Path) -> Box:
    """Make the box of Evidently: no network, and nothing but its tables and its page."""
    return Box(folder=work, writable=(work,), readable=(_PROGRAM,), pythons=(python,))


async def _install() -> Path:
    """Install Evidently as it is locked, unless it is there; return the path of its Python."""
    requirements = await read_lock(_PROJECT, _STATE)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    path = Settings().environments / f"evidently-{fingerprint(requirements, version)}"
    if not path.is_dir():
        commands.run_logger().info("installing Evidently into %s: about 920 MB, once", path)
    await make_environment(path, version, partial(write_lock, requirements), _STATE)
    return path / "bin" / "python"


def make_tables(reference: Reference, answers: Sequence[Answer]) -> dict[str, Any]:
    """Make the tables that Evidently compares. Pure.

    Args:
        reference: The training rows: of each column, values are drawn from its profile, so the
            table says nothing of how columns hang together.
        answers: The rows of the window; of very many, an even share.

    Returns:
        The kinds of the columns, and both tables by column.
    """
    answers = answers[:: -(-len(answers) // _MOST_ROWS) or 1]
    profile = reference.profile
    size = min(profile.rows, _MOST_ROWS)
    kinds: dict[str, Kind] = {}
    before: Table = {}
    now: Table = {}
    for name, column in profile.columns.items():
        values = [answer.inputs.get(name) for answer in answers]
        if column.kind == "other" or not any(name in answer.inputs for answer in answers):
            continue
        text = name.translate(_SIGNS)
        kinds[text] = column.kind
        before[text] = _draw(column, profile.rows, size, name)
        now[text] = _clean(values, column.kind, column.counts)
    outputs = [answer.output for answer in answers]
    if reference.predicted and any(output is not None for output in outputs):
        kind = "number" if reference.is_regression else "category"
        predicted = list(reference.predicted)
        drawn: list[Value] = [predicted[at * len(predicted) // size] for at in range(size)]
        kinds[_PREDICTION] = kind
        before[_PREDICTION] = _clean(drawn, kind, Counter(predicted))
        now[_PREDICTION] = _clean(outputs, kind, Counter(predicted))
    return {"kinds": kinds, "reference": before, "current": now}


def _draw(column: Column, rows: int, size: int, name: str) -> list[Value]:
    """Draw values of a column from its profile, always the same ones."""
    missing = round(column.missing * size / rows)
    values: list[Value] = []
    if column.kind == "number" and column.points:
        count = size - missing
        values = [column.points[at * len(column.points) // count] for at in range(count)]
    elif column.kind == "category":
        for text, number in column.categories.items():
            values += [text.translate(_SIGNS)] * round(number * size / rows)
    values = [*values, *[None] * size][:size]  # what is left after rounding is missing
    random.Random(name).shuffle(values)
    return values


def _clean(values: Sequence[Value], kind: Kind, known: Mapping[str, int]) -> list[Value]:
    """Return numbers, or categories that the training rows or enough clients have."""
    if kind == "number":
        return [to_number(value) for value in values]
    texts = [None if value is None else str(value) for value in values]
    counts = Counter(texts)
    return [
        None
        if text is None
        else (text if text in known or counts[text] >= _LEAST_ROWS else OTHERS).translate(_SIGNS)
        for text in texts
    ]
