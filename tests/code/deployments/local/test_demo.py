"""What `make demo` shows of flow runs, and of those that fail."""

from __future__ import annotations

import datetime
import io
from pathlib import Path

import pytest
from rich.console import Console

from deployments.local.demo import (
    deploy_run,
    metrics_at,
    query_model,
    require_model,
    retrain_run,
    watch,
)
from deployments.local.stack import Stack
from deployments.prefect_api.display import show_live
from deployments.prefect_api.models import FlowRun, LogLine, Progress, State
from deployments.prefect_api.watching import RunFailed, describe_line, show_lines
from deployments.trigger import request_deploy
from tasks.core.errors import CandidateRejected, TransientError
from tasks.repository.git import Git
from tests.commits import commit_all
from tests.stack_access import wait_for_end

_NOW = datetime.datetime.now(datetime.UTC)


def steps() -> list[Progress]:
    def run(flow: str, state: str) -> FlowRun:
        return FlowRun(flow, f"a {flow}", flow, state, state.title(), "", 1.5)

    line = LogLine("retrain", _NOW, "fitting [1/3]\nmore")
    return [
        Progress((run("retrain", "RUNNING"),), None),
        Progress((run("retrain", "RUNNING"), run("train", "RUNNING")), line),
        Progress((run("retrain", "RUNNING"), run("train", "RUNNING")), line),
        Progress((run("retrain", "COMPLETED"), run("train", "COMPLETED")), line),
    ]


def test_rejected_first_model_ends_the_demo_with_the_reasons_of_the_gate(tmp_path: Path) -> None:
    for path in ("params.yaml", "model/train.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("")
    commit_all(tmp_path, "No model yet")
    reason = "f1_macro 0.8000 misses the minimum 0.9 (gate.minimum)"
    with pytest.raises(CandidateRejected, match=r"rejected the first model: .*gate\.minimum") as no:
        require_model(tmp_path, reason)
    assert "a key of `gate` in params.yaml" in no.value.next_step
    (tmp_path / "model/wine.mlem").write_text("")
    commit_all(tmp_path, "A model")
    require_model(tmp_path, reason)


def test_without_a_terminal_every_event_is_one_line() -> None:
    output = io.StringIO()
    last = show_lines(lambda line: print(line, file=output))(iter(steps()))
    assert last.run.succeeded
    rows = [line.split() for line in output.getvalue().splitlines()]
    assert [words[:2] for words in rows] == [
        ["retrain", "Running"],
        ["train", "Running"],
        ["fitting", "[1/3]"],
        ["retrain", "Completed"],
        ["train", "Completed"],
    ]


@pytest.mark.parametrize(
    ("message", "task", "text"),
    [
        ("Finished in state Completed()", "push wine@fee9ac4", "push wine@fee9ac4: Completed"),
        ("Finished in state Completed('1 file')", "pull wine", "pull wine: Completed, 1 file"),
        ("Finished in state Completed()", "", "a train: Completed"),
        (
            "Finished in state Failed('Task run encountered an exception TerminalError: no ref"
            "\\nState: unchanged')",
            "check out v9",
            "check out v9: Failed, no ref",
        ),
        ("fitting [1/3]\nmore", "train wine", "train wine: fitting [1/3]"),
        ("submitted to infrastructure", "", "submitted to infrastructure"),
    ],
)
def test_lines_name_their_task_and_its_state(message: str, task: str, text: str) -> None:
    runs = [FlowRun("1", "a train", "train", "RUNNING", "Running", "", 1.5)]
    assert describe_line(LogLine("1", _NOW, message, task), runs) == text


def test_terminal_keeps_the_final_state() -> None:
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


def test_failed_run_is_shown_with_message_log_and_link(stack: Stack) -> None:
    output = io.StringIO()
    console = Console(file=output, width=200)
    with stack.open_api() as api:
        run = api.create_run("deploy/local", {"ref": "no-such-ref"})
        with pytest.raises(RunFailed, match="no-such-ref") as failed:
            watch(api, run, console)
    assert "the end of its log:" in output.getvalue()
    with stack.open_api() as api:
        assert api.ui_url(run) in failed.value.next_step


def test_unfinished_retraining_is_taken_over(
    stack: Stack,
) -> None:
    with stack.open_api() as api:
        first = retrain_run(api, "local", "demo-of-a-commit")
        again = retrain_run(api, "local", "demo-of-a-commit")
        other = retrain_run(api, "local", "demo-of-another-commit")
        for run in (first, other):
            api.force_state(run.id, State("CANCELLED", "Cancelled", "seen enough"))
        after = retrain_run(api, "local", "demo-of-a-commit")
        api.force_state(after.id, State("CANCELLED", "Cancelled", "seen enough"))
    assert first.id == again.id
    assert len({first.id, other.id, after.id}) == 3


def test_deploy_of_the_push_is_used_unless_it_ended_earlier(stack: Stack) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    with stack.open_api() as api:
        before = datetime.datetime.now(datetime.UTC)
        pushed = request_deploy(api, "local", commit)
        assert deploy_run(api, "local", commit, before).id == pushed.id
        assert wait_for_end(api, pushed.id).state == "FAILED"  # there is no such commit
        assert deploy_run(api, "local", commit, before).id == pushed.id
        after = deploy_run(api, "local", commit, datetime.datetime.now(datetime.UTC))
        assert after.id != pushed.id
        wait_for_end(api, after.id)


def test_missing_model_is_an_error(stack: Stack) -> None:
    with pytest.raises(TransientError, match="does not answer"):
        query_model(stack.s3_endpoint_url)
