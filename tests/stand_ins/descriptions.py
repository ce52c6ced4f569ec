"""The published descriptions of the APIs of platforms, to check requests against."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.core.settings import CHECKOUT

_VARIABLE = "SLIPWAY_TEST_SCHEMAS"
_USUAL = CHECKOUT.parent / "shared" / "schemas"  # beside the checkout


def find_description(name: str) -> Path | None:
    """Return the file of a description, None if it is not there."""
    path = Path(os.environ.get(_VARIABLE) or _USUAL) / name
    return path if path.is_file() else None


def absent(name: str) -> str:
    """Explain why a test that needs a description is skipped."""
    return f"{name} is neither in the folder that {_VARIABLE} names nor in ../shared/schemas"
