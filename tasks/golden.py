"""Replaying golden predictions: does a running server predict what the saved model did?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tasks.errors import TerminalError, TransientError

# Sums in another order, on another processor, differ in the last digits.
_RELATIVE, _ABSOLUTE = 1e-6, 1e-9
_REQUEST_SECONDS = 30.0


async def replay(url: str, golden: Mapping[str, Any]) -> None:
    """Send the golden inputs to a server and compare its predictions.

    Args:
        url: Base URL of the server.
        golden: `inputs`, a list of rows by column, and `outputs`, a list by method.

    Raises:
        TerminalError: A prediction differs, or a request is refused; names the first difference.
        TransientError: The server does not answer.
    """
    body = {"data": {"values": golden["inputs"]}}
    async with httpx.AsyncClient(base_url=url, timeout=_REQUEST_SECONDS, trust_env=False) as client:
        for method, expected in golden["outputs"].items():
            try:
                answer = await client.post(f"/{method}", json=body)
            except httpx.HTTPError as error:
                raise TransientError(
                    f"{url}/{method} does not answer: {type(error).__name__}: {error}"
                ) from error
            if answer.status_code != 200:
                raise TerminalError(
                    f"{method} refuses the golden inputs: {answer.status_code} {answer.text[:300]}"
                )
            try:
                got = answer.json()
            except ValueError as error:
                raise TerminalError(f"{method} answers what is not JSON") from error
            difference = first_difference(expected, got)
            if difference:
                raise TerminalError(f"{method} differs from the golden predictions: {difference}")


def first_difference(expected: Sequence[Any], got: Any) -> str | None:
    """Describe the first prediction that differs.

    Args:
        expected: Golden predictions, one per row.
        got: What the server answered.

    Returns:
        Row, expected and received value; None if all agree.
    """
    if not isinstance(got, list) or len(got) != len(expected):
        received = f"{len(got)}" if isinstance(got, list) else "no list"
        return f"expected {len(expected)} predictions, got {received}"
    for row, (one, other) in enumerate(zip(expected, got, strict=True)):
        if not _same(one, other):
            return f"row {row}: expected {one!r}, got {other!r}"
    return None


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return bool(one == other)
