"""Shadow traffic is asked for once, shown, and refuses what differs too much."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.core.errors import CandidateRejected
from tasks.monitoring.shadow import Traffic, compare
from tasks.monitoring.shadow_report import ShadowReport
from tasks.monitoring.window import Span
from tasks.platforms.flyio.settings import FlyioEnvironment
from tasks.platforms.process.settings import ProcessEnvironment
from tasks.release import approval, shadowing
from tasks.release.shadowing import run_shadow
from tasks.reports.release_report import Release
from tasks.reports.shadow_report import describe_shadow
from tests.code.tasks.monitoring.logs import make_line

_START = datetime.now(UTC)
_SPAN = Span(_START, _START + timedelta(seconds=60))


def _report(outputs: str, **options: Any) -> ShadowReport:
    """Make the report on requests that the live version has answered with `a`."""
    when = (_START + timedelta(seconds=1)).isoformat()

    def ask(answers: str) -> list[bytes]:
        return [make_line(n, [{"ash": n, "note": "`|x"}], [answer], time=when)
                for n, answer in enumerate(answers)]  # fmt: skip

    traffic = Traffic(_SPAN, ask("a" * len(outputs)), ask(outputs), len(outputs))
    return compare(traffic, tolerance=0.0, **options)


async def test_columns_that_either_version_keeps_private_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    columns: list[object] = []

    class Target:
        async def shadow(self, _: object, private: object) -> Traffic:
            columns.append(private)
            when, row = _START.isoformat(), {"ash": 1, "name": "Ada", "note": "x"}
            lines = [[make_line(1, [row], [answer], time=when)] for answer in "ab"]
            return Traffic(_SPAN, *lines, sent=1)

    async def read_at(_: object, commit: str, __: str) -> str:
        return "data: {private: [name]}" if commit == "1" * 40 else ""

    monkeypatch.setattr(shadowing, "read_at", read_at)
    workspace = SimpleNamespace(parameters={"data": {"private": ["note"]}})
    package = SimpleNamespace(commit="0" * 40, label="wine@0000000", workspace=workspace)
    release = Release(package, "local", Target(), {})  # type: ignore[arg-type]
    environment = ProcessEnvironment.model_validate(
        {"name": "local", "target": "process", "log": {}, "shadow": "1m"}
    )
    assert environment.shadow
    for commit in ("2" * 40, "1" * 40):  # origin does not know the first
        release.before = SimpleNamespace(commit=commit, label="wine@x", version="v1")  # type: ignore[assignment]
        report = await shadowing.mirror.fn(
            environment, environment.shadow, release, Target(), object()
        )
        assert bool(report) == (commit == "1" * 40)
    assert columns == [{"name"}]
    assert [item.inputs for item in report.largest] == [{"ash": 1}]


class _Lab:
    """A flow run, and a target of which nothing but the result is known."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, report: ShadowReport | None) -> None:
        self.inputs: dict[str, Any] = {}
        self.mirrored = self.rolled_back = 0

        async def mirror(*_: object) -> ShadowReport | None:
            self.mirrored += 1
            return report

        async def read(key: str) -> Any:
            return self.inputs.get(key)

        async def create(key: str, value: Any) -> None:
            self.inputs[key] = value

        monkeypatch.setattr(shadowing, "mirror", mirror)
        monkeypatch.setattr(shadowing, "aread_flow_run_input", read)
        monkeypatch.setattr(shadowing, "acreate_flow_run_input", create)
        monkeypatch.setattr(shadowing.flow_run, "get_id", lambda: "some")

    async def rollback(self, _: object) -> None:
        """Count what was taken back."""
        self.rolled_back += 1

    async def run(self, shadow: Any = "10m", **facts: Any) -> Release:
        """Take the step of a deploy."""
        environment = ProcessEnvironment.model_validate(
            {"name": "local", "target": "process", "log": {}, "shadow": shadow}
        )
        package = SimpleNamespace(commit="0" * 40, label="wine@0000000")
        release = Release(package, "local", self, {}, **facts)  # type: ignore[arg-type]
        await run_shadow(environment, release, self, object())  # type: ignore[arg-type]
        return release


async def test_run_that_goes_on_keeps_what_was_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = _Lab(monkeypatch, _report("aab"))
    first, after_approval = await lab.run(), await lab.run()
    assert first.shadow == after_approval.shadow == _report("aab")
    assert lab.mirrored == 1


async def test_rollback_and_environment_without_shadow_have_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = _Lab(monkeypatch, _report("aab"))
    await lab.run(rollback=True)
    await lab.run("")
    elsewhere = FlyioEnvironment.model_validate(
        {"name": "flyio", "target": "flyio", "app": "a", "organization": "o", "region": "ams"}
    )
    await run_shadow(elsewhere, await lab.run(""), lab, object())  # type: ignore[arg-type]
    assert lab.mirrored == 0


async def test_first_release_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = _Lab(monkeypatch, None)
    release = await lab.run({"time": "1m", "max_disagreement": 0.1})
    assert release.shadow is None
    assert not release.shadow_absence
    assert not lab.inputs


async def test_release_without_a_comparison_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def draw(*_: object) -> str:
        return ""

    monkeypatch.setattr(approval, "picture_of", draw)
    live: Any = SimpleNamespace(commit="1" * 40, label="wine@x", version="v1", metrics=None)
    rules = {"time": "1m", "max_disagreement": 0.1}
    release = await _Lab(monkeypatch, None).run(rules, before=live)
    release.package.workspace = None  # type: ignore[misc]
    form = await approval._description(release, _START)
    assert "Shadow traffic: **none**" in form
    assert "nor checked against `shadow.max_disagreement`" in form


@pytest.mark.parametrize(
    ("outputs", "most", "says"),
    [
        ("aaab", 0.25, ""),
        ("aaab", 0.2, r"1 of 4 answers differ \(25.00%\), and `shadow.max_disagreement` of local"),
        ("", 0.9, "no live request shows how"),
    ],
)
async def test_disagreement_refuses(
    outputs: str, most: float, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = _Lab(monkeypatch, _report(outputs))
    rules = {"time": "1m", "max_disagreement": most}
    if says:
        with pytest.raises(CandidateRejected, match=says):
            await lab.run(rules)
    else:
        assert (await lab.run(rules)).shadow


async def test_form_of_the_approval_shows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def draw(*_: object) -> str:
        return ""

    monkeypatch.setattr(approval, "picture_of", draw)
    release = await _Lab(monkeypatch, _report("ab")).run()
    release.package.workspace = None  # type: ignore[misc]
    form = await approval._description(release, _START)
    assert describe_shadow(_report("ab")) in form


def test_report_shows_what_clients_sent_as_text() -> None:
    text = describe_shadow(_report("ab", slices=("ash < 1", "ash >= 1")))
    assert "**1 of 2 answers differ (50.00%)**" in text
    assert "| `a` | `b` | - | `ash=1, note='\\|x` |" in text
    assert "| `ash >= 1` | 1 | 1 | 100.0% |" in text
    assert "| live | 2 | 0 | 1.5 | 1.5 | 1.5 |" in text
