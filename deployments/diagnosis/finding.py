"""Findings of `slipway doctor` and `slipway check`."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.core.errors import SlipwayError


@dataclass(frozen=True)
class Finding:
    """The result of checking one thing.

    Attributes:
        thing: The thing that was checked.
        text: The result.
        fix: The way to fix it, a command if there is one; empty if nothing is wrong.
    """

    thing: str
    text: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.fix


def problem(thing: str, error: SlipwayError) -> Finding:
    """Return the finding for an error."""
    return Finding(thing, error.what, error.next_step or "see the error")
