"""The two kinds of failure, as types that decide whether to retry."""

from __future__ import annotations

from typing import Any


class SlipwayError(Exception):
    """A failure, with everything that a person needs to continue.

    Args:
        what: One sentence that says what failed.
        state: The state in which the failure left things.
        next_step: The command (or edit) to continue with.
    """

    def __init__(self, what: str, *, state: str = "", next_step: str = "") -> None:
        self.what = what
        self.state = state
        self.next_step = next_step
        super().__init__(what, state, next_step)

    def __str__(self) -> str:
        lines = [self.what]
        if self.state:
            lines.append(f"State: {self.state}")
        if self.next_step:
            lines.append(f"Next: {self.next_step}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        # Prefect pickles exceptions of failed runs; keyword-only arguments need help.
        return (_rebuild, (type(self), self.what, self.state, self.next_step))


def _rebuild(kind: type[SlipwayError], what: str, state: str, next_step: str) -> SlipwayError:
    return kind(what, state=state, next_step=next_step)


class TransientError(SlipwayError):
    """A failure that another try may not meet: retried with back-off."""


class TerminalError(SlipwayError):
    """A failure that stays until somebody changes something: never retried."""


class CandidateRejected(TerminalError):
    """A model version that failed a check of its own: another one may pass."""


class DataRejected(TerminalError):
    """Data that do not fit parameters which fitted the data before them."""


class ConfigurationError(TerminalError):
    """A file or parameter that Slipway rejects before it runs anything."""
