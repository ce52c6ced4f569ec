"""Which releases are watched after their switch."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from prefect.exceptions import ObjectNotFound

from tasks.core.errors import ConfigurationError
from tasks.platforms.base.watch import WatchPlan
from tasks.release import watching
from tasks.release.watching import WatchOrder, plan_watch, schedule_watch

_PLAN = WatchPlan(60.0, {"requests": 3})


def _release(**facts: Any) -> Any:
    before = Mock(version="v1")
    return Mock(**{"rollback": False, "version": "v2", "before": before, "label": "wine", **facts})


@pytest.mark.parametrize(
    ("release", "plan", "expected"),
    [
        (_release(), _PLAN, WatchOrder("v1", _PLAN)),
        (_release(), None, None),  # no `watch`
        (_release(rollback=True), _PLAN, None),
        (_release(version="v1"), _PLAN, None),  # forced once more
        (_release(before=None), _PLAN, None),
        (_release(before=Mock(version=None)), _PLAN, None),
    ],
)
async def test_release_with_a_version_to_go_back_to_is_watched(
    release: Any, plan: WatchPlan | None, expected: WatchOrder | None
) -> None:
    assert await plan_watch.fn(release, Mock(plan_watch=AsyncMock(return_value=plan))) == expected


async def test_missing_deployment_of_the_watch_names_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    run = AsyncMock(side_effect=ObjectNotFound(Exception()))
    monkeypatch.setattr(watching, "arun_deployment", run)
    await schedule_watch.fn("local", "a-release", None)
    run.assert_not_called()
    with pytest.raises(ConfigurationError, match="no deployment watch/local") as refusal:
        await schedule_watch.fn("local", "a-release", WatchOrder("v1", _PLAN))
    assert "slipway apply" in refusal.value.next_step
    parameters = run.call_args.kwargs["parameters"]
    assert (parameters["release"], parameters["version"]) == ("a-release", "v1")
    assert run.call_args.kwargs["idempotency_key"] == "a-release"
