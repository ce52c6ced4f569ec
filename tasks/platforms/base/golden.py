"""Replay of golden predictions: a running server must predict what the saved model did."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.core.errors import TerminalError
from tasks.package.package import make_body
from tasks.platforms.base.model_server import Server

# Sums in another order, on another processor, differ in the last digits.
_RELATIVE, _ABSOLUTE = 1e-6, 1e-9


async def replay(server: Server, golden: Mapping[str, Any]) -> None:
    """Send the golden inputs to a server and compare its predictions.

    Args:
        golden: `inputs`, a list of rows, and `outputs`, a list by method.

    Raises:
        TerminalError: A prediction differs, or a request is refused; names the first difference.
        TransientError: The server does not answer.
    """
    body = make_body(golden["inputs"])
    for method, expected in golden["outputs"].items():
        answer = await server.ask(method, body)
        if answer.status != 200:
            raise TerminalError(
                f"{method} refuses the golden inputs: {answer.status} {answer.text[:300]}"
            )
        try:
            got = json.loads(answer.text)
        except ValueError as error:
            raise TerminalError(f"{method} answers what is not JSON") from error
        difference = first_difference(expected, got)
        if difference:
            raise TerminalError(f"{method} differs from the golden predictions: {difference}")


def first_difference(expected: Sequence[Any], got: Any) -> str | None:
    """Describe the first prediction that differs.

    Args:
        expected: Golden predictions, one per row.
        got: The server's answer.

    Returns:
        Row, expected and received value; None if all agree.
    """
    if not isinstance(got, list) or len(got) != len(expected):
        received = f"{len(got)}" if isinstance(got, list) else "no list"
        return f"expected {len(expected)} predictions, got {received}"
    for row, (first, other) in enumerate(zip(expected, got, strict=True)):
        if not _same(first, other):
            return f"row {row}: expected {first!r}, got {other!r}"
    return None


def _same(first: Any, other: Any) -> bool:
    if isinstance(first, list) and isinstance(other, list):
        return len(first) == len(other) and all(map(_same, first, other))
    if isinstance(first, float) and isinstance(other, int | float):
        return math.isclose(first, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return bool(first == other)
