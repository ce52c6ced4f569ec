"""The report of a release: its note, its data, and the errors that do not fail the run."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from tasks.core.errors import TerminalError, TransientError
from tasks.package.package import Package
from tasks.platforms.base.target import Live
from tasks.platforms.catalogue import load_environment, make_target
from tasks.reports.milestones import Milestone
from tasks.reports.release_data import PreviousRelease, ReleaseData
from tasks.reports.release_report import Release, ReleaseReport, release_report
from tasks.repository.git import Git
from tasks.repository.workspace import Workspace
from tasks.runs import artifacts


def _release(name: str, folder: Path) -> Release:
    workspace = Workspace(folder, "a" * 40, "main")
    package = Package(workspace, "wine", "a" * 40, "", "", 0, "3.12.1", {}, {}, "")
    return Release(package, name, make_target(load_environment(name)), {"f1_macro": 0.97})


@pytest.mark.parametrize(("name", "has_page"), [("flyio", True), ("sagemaker", False)])
def test_note_links_the_page_where_there_is_one(name: str, has_page: bool, tmp_path: Path) -> None:
    release = _release(name, tmp_path)
    data = release.data()
    note, url = release.note(data), data.url
    assert (f"| page | [{url}]({url}), its API: [{url}/docs]({url}/docs) |" in note) is has_page
    assert (f"| url | {url} |" in note) is not has_page
    assert (f"{url}/docs" in note) is has_page


def test_data_survive_json(tmp_path: Path) -> None:
    release = _release("flyio", tmp_path)
    release.end("superseded", "wine@1234567, which is newer, is live")
    data = replace(release.data(), before=PreviousRelease("v0.0.1", "b" * 40, {"f1_macro": 0.9}))
    assert (data.outcome, data.model, data.commit) == ("superseded", "wine", "a" * 40)
    values = data.to_json()
    later = {"key_of_a_later_version": 1}
    assert ReleaseData.from_json({**values, **later, "before": {**values["before"], **later}}) == (
        data
    )


async def test_unreadable_metrics_of_the_live_model_do_not_stop_a_release(tmp_path: Path) -> None:
    git = Git(tmp_path)
    git("init", "--quiet")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "metrics.json").write_text("<<<<<<< ours\n")
    git("add", "--all")
    git("commit", "--quiet", "--message=Broken metrics")
    live = Live("r", "wine", git("rev-parse", "HEAD"), "", "", "v0.0.1", healthy=True)
    release = _release("flyio", tmp_path)
    await release.compare_with(live)
    assert release.before == live
    assert release.metrics_before is None


@pytest.mark.parametrize(
    ("error", "fails"),
    [
        (TransientError("S3 is down"), False),
        (TimeoutError("300 s"), False),
        (TerminalError("401"), True),
    ],
)
async def test_recorded_release_outlives_an_outage_of_the_clean_up(
    error: Exception, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def publish(_: ReleaseReport) -> None: ...

    monkeypatch.setattr(ReleaseReport, "publish", publish)
    release = _release("flyio", tmp_path)
    release.milestone = Milestone.RECORDED
    release.end("live", "released")

    async def clean_up() -> None:
        async with release_report("flyio", release.target) as report:
            report.release = release
            raise error

    if fails:
        with pytest.raises(TerminalError):
            await clean_up()
    else:
        await clean_up()
    assert release.outcome == "live"


async def test_release_that_is_cancelled_while_it_is_reported_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    scope = anyio.CancelScope()  # as that of the flow's time-out

    async def publish(key: str, *_: Any) -> None:
        scope.cancel()
        await asyncio.sleep(0)
        keys.append(key)

    for name in ("publish_json", "publish_markdown", "publish_link"):
        monkeypatch.setattr(artifacts, name, publish)
    release = _release("flyio", tmp_path)
    release.end("superseded", "wine@1234567, which is newer, is live")
    with scope:
        await ReleaseReport("flyio", release.target, release=release).publish()
    assert keys == ["wine-flyio-release-data", "wine-flyio-release"]
