"""What `make demo` shows of flow runs, and of those that fail."""

from __future__ import annotations

import datetime
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from deployments.api import FlowRun, LogLine, PrefectAPI, Progress
from deployments.demo import RunFailed, ask_model, metrics_at, run_flow, show_lines, show_live
from deployments.origin import Git
from deployments.stack import Stack
from tasks.errors import TransientError

_NOW = datetime.datetime.now(datetime.UTC)


def steps() -> list[Progress]:
    def run(flow: str, state: str) -> FlowRun:
        return FlowRun(flow, f"a {flow}", flow, state, state.title(), "", 1.5)

    line = LogLine("retrain", _NOW, 20, "fitting [1/3]\nmore")
    return [
        Progress((run("retrain", "RUNNING"),), None),
        Progress((run("retrain", "RUNNING"), run("train", "RUNNING")), line),
        Progress((run("retrain", "RUNNING"), run("train", "RUNNING")), line),
        Progress((run("retrain", "COMPLETED"), run("train", "COMPLETED")), line),
    ]


def test_without_a_terminal_every_event_is_one_line() -> None:
    output = io.StringIO()
    last = show_lines(Console(file=output, width=100))(iter(steps()))
    assert last.run.succeeded
    told = [line.split() for line in output.getvalue().splitlines()]
    assert [words[:2] for words in told] == [
        ["retrain", "Running"],
        ["train", "Running"],
        ["fitting", "[1/3]"],
        ["retrain", "Completed"],
        ["train", "Completed"],
    ]


def test_on_a_terminal_the_end_is_left_to_be_read() -> None:
    output = io.StringIO()
    console = Console(file=output, width=100, force_terminal=True)
    assert show_live(console)(iter(steps())).run.succeeded
    assert "Completed" in output.getvalue()


def test_metrics_are_those_of_the_commit(tmp_path: Path) -> None:
    git = Git(tmp_path)
    git("init", "--quiet", "--initial-branch=main")
    git("commit", "--quiet", "--allow-empty", "--message=No model")
    assert metrics_at(tmp_path, "main") == {}
    (tmp_path / "reports").mkdir()
    text = '{"accuracy": 0.5, "rows": 36, "confusion": [[1]], "ok": true}'
    (tmp_path / "reports" / "metrics.json").write_text(text)
    git("add", "--all")
    git("commit", "--quiet", "--message=A model")
    assert metrics_at(tmp_path, "main") == {"accuracy": 0.5, "rows": 36}


def test_a_run_that_fails_is_told_with_its_message_log_and_link(stack: Stack) -> None:
    shown = show_lines(Console(file=io.StringIO()))
    with (
        PrefectAPI(stack.prefect_api_url) as api,
        pytest.raises(RunFailed, match="no-such-ref") as failed,
    ):
        run_flow(api, "deploy/local", {"ref": "no-such-ref"}, shown, "demo-failing")
    assert "The end of its log" in str(failed.value)
    assert f"{stack.prefect_ui_url}/runs/flow-run/" in failed.value.next_step


def test_a_run_that_was_left_under_way_is_taken_over_and_one_that_ended_is_not(
    stack: Stack,
) -> None:
    shown = show_lines(Console(file=io.StringIO()))
    seen: list[str] = []

    def stop_watching(steps: Iterator[Progress]) -> Progress:
        seen.append(next(steps).run.id)
        raise KeyboardInterrupt

    def watch(steps: Iterator[Progress]) -> Progress:
        last = shown(steps)
        seen.append(last.run.id)
        return last

    work = ("deploy/local", {"ref": "no-such-ref"})
    with PrefectAPI(stack.prefect_api_url) as api:
        with pytest.raises(KeyboardInterrupt):
            run_flow(api, *work, stop_watching, "demo-interrupted")
        with pytest.raises(KeyboardInterrupt):
            run_flow(api, *work, stop_watching, "demo-of-another-commit")
        with pytest.raises(RunFailed):
            run_flow(api, *work, watch, "demo-interrupted")
        with pytest.raises(RunFailed):
            run_flow(api, *work, watch, "demo-interrupted")
    first, other, again, after = seen
    assert first == again
    assert len({first, other, after}) == 3


def test_a_model_that_is_not_there_is_an_error_and_no_traceback(stack: Stack) -> None:
    with pytest.raises(TransientError, match="does not answer"):
        ask_model(stack.s3_endpoint_url)
