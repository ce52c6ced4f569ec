"""Locks of all hosts, when the clock of a host is set back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from tasks.release.locks import shared
from tasks.release.locks.shared import Rhythm, SharedLock

if TYPE_CHECKING:
    from prefect.client.schemas.objects import Variable


def test_clock_set_back_neither_takes_nor_keeps_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 1000.0
    monkeypatch.setattr(shared.time, "monotonic", lambda: seconds)
    lock = SharedLock("production", Rhythm(gone=100.0))

    def renewed(at: str) -> Variable:
        return cast("Variable", SimpleNamespace(id="one", value={"renewed": at}))

    assert not lock._is_gone(renewed("2026-11-30T12:00:00+00:00"))
    seconds += 99
    # The holder, whose clock was set back meanwhile, is alive all the same.
    assert not lock._is_gone(renewed("2026-11-30T11:01:39+00:00"))
    seconds += 99
    assert not lock._is_gone(renewed("2026-11-30T11:01:39+00:00"))
    seconds += 2
    assert lock._is_gone(renewed("2026-11-30T11:01:39+00:00"))
