"""The schedules that are declared, over the days on which clocks are changed."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from prefect.server.schemas.schedules import CronSchedule

from deployments.catalogue.prefect_yaml import Manifest
from tasks.core.settings import CHECKOUT

_DECLARED = [
    CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    for deployment in Manifest.read(CHECKOUT).deployments
    for schedule in deployment.get("schedules", [])
    if schedule["slug"] == "weekly"
]
# Times that are not there, or there twice, on those days.
_NASTY = [
    CronSchedule(cron="30 2 * * 0", timezone="Europe/Berlin"),
    CronSchedule(cron="30 2 * * SUN", timezone="America/New_York"),
]
_WEEK = datetime.timedelta(days=7)


@pytest.fixture(params=["America/New_York", "Asia/Kolkata"])
def zone_of_the_server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone_of_the_server")
@pytest.mark.parametrize(
    "schedule", [*_DECLARED, *_NASTY], ids=lambda schedule: f"{schedule.cron} {schedule.timezone}"
)
@pytest.mark.parametrize("month", [3, 10], ids=["spring", "autumn"])
async def test_one_run_a_week_also_when_clocks_change(schedule: CronSchedule, month: int) -> None:
    begin = datetime.datetime(2027, month, 1, tzinfo=datetime.UTC)
    end = begin + 6 * _WEEK
    # The server looks again and again, and makes one run for every date that it sees.
    seen = {
        date.astimezone(datetime.UTC)
        for hours in range(6 * 7 * 24)
        for date in await schedule.get_dates(n=1, start=begin + datetime.timedelta(hours=hours))
    }
    dates = sorted(date for date in seen if begin <= date < end)
    assert len(dates) == 6
    for earlier, later in pairwise(dates):
        assert abs(later - earlier - _WEEK) <= datetime.timedelta(hours=1)
