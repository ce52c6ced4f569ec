"""When an environment is as it should be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.platforms.base.target import Live
from tasks.release.locks.holder import Holder
from tasks.release.status import Condition, Seen
from tasks.repository.release_history import Entry

_A, _B = "a" * 40, "b" * 40
_AT = datetime(2026, 11, 25, 22, 48, tzinfo=UTC)
_LATER = _AT + timedelta(seconds=1)
_DEPLOY = Holder("deploy b to local", None, "wine@bbbbbbb", "2026-11-25T22:48:00+00:00")


def _live(commit: str, *, healthy: bool = True) -> Live:
    return Live("a-release", "wine", commit, "", "", "v1", healthy)


def _condition(released: str = "", at: datetime = _LATER, **seen: Any) -> Condition:
    entry = Entry("v1", released, _AT, "-", "", "123") if released else None
    return Condition(Seen("local", at, "process", "http://host", **seen), entry)


@pytest.mark.parametrize(
    ("condition", "health"),
    [
        (_condition(), "never released"),
        (_condition(unreached="no way"), "never released, not reached"),
        (_condition(_A, live=_live(_A)), "healthy"),
        (_condition(_A, live=_live(_B), deploy=_DEPLOY), f"under way: {_DEPLOY}"),
        (_condition(_A, deploy=_DEPLOY), f"under way: {_DEPLOY}"),
        # Released after the platform was asked, before the history was read.
        (_condition(_A, _AT, live=_live(_B)), "under way: v1 was released just now"),
        (_condition(_A, _AT, unreached="no way"), "under way: v1 was released just now"),
    ],
)
def test_what_is_no_problem(condition: Condition, health: str) -> None:
    assert condition.problem == ""
    assert condition.describe()["health"] == health


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        (_condition(_A), "nothing is live; the history says v1 at aaaaaaa"),
        (_condition(_A, live=_live(_B)), "the history says v1 at aaaaaaa"),
        (_condition("", live=_live(_B)), "the history says nothing was released"),
        (_condition(_A, live=_live(_A, healthy=False)), "it does not answer as what it is"),
        (_condition(_A, unreached="no way"), "it cannot be reached: no way"),
        (Condition(Seen("moon", _AT, unreached="does not exist"), None), "does not exist"),
    ],
)
def test_what_is_a_problem(condition: Condition, problem: str) -> None:
    assert condition.problem == problem
    assert condition.describe()["health"] == problem
