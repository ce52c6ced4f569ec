"""What `make doctor` and `make check` find."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.core.errors import SlipwayError


@dataclass(frozen=True)
class Finding:
    """What was found out about one thing.

    Attributes:
        thing: What was looked at.
        said: What was found.
        fix: How to mend it, a command if there is one; empty if nothing is wrong.
    """

    thing: str
    said: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.fix


def problem(thing: str, error: SlipwayError) -> Finding:
    """The finding that an error amounts to."""
    return Finding(thing, error.what, error.next_step or "see the error")
