from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.code.flows.harness import Lab
from tests.code.training.faults import faulty_s3

# The first test waits for a stack, a retraining and another candidate.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(autouse=True)
def _main_stays(lab: Lab, delivered: str) -> Iterator[None]:
    yield
    lab.git("update-ref", "refs/heads/main", delivered)


def _unpublish(lab: Lab, commit: str) -> str:
    """Make a pushed candidate what it was before it was pushed: saved, on this host only."""
    branches = [r for r, c in lab.refs().items() if c == commit and "/candidate/" in r]
    for ref in branches:
        lab.git("update-ref", "-d", ref)
    lab.git("update-ref", f"refs/slipway/runs/again-{commit[:7]}", commit)
    lab.s3().delete_object(Bucket=lab.bucket, Key=lab.model_key(commit))
    return commit


@pytest.fixture
def saved(lab: Lab, newer: str) -> str:
    """A saved candidate whose model is not in the bucket, and which no branch has."""
    return _unpublish(lab, newer)


def _in_bucket(lab: Lab, commit: str) -> bool:
    listed = lab.s3().list_objects_v2(Bucket=lab.bucket, Prefix=lab.model_key(commit))
    return bool(listed["KeyCount"])


def test_with_s3_gone_nothing_is_published_and_the_next_run_finishes(lab: Lab, saved: str) -> None:
    before = lab.refs()
    lab.stack.supervisor.stop("object-store")
    try:
        # The result goes to S3 as well, so the flow itself cannot end well either.
        failed = lab.run("push", {"ref": saved, "branch": "main"})
    finally:
        lab.stack.supervisor.start("object-store")
    assert failed.state == "Failed"
    assert failed.error == "TransientError"
    assert "is unreachable" in failed.message
    assert failed.log.count("Task run failed with exception: TransientError") == 3, "2 retries"
    assert lab.refs() == before

    done = lab.run("push", {"ref": saved, "branch": "main"}, SLIPWAY_RETRIES="8")
    assert done.data == saved
    assert lab.head() == saved
    assert _in_bucket(lab, saved)


def test_gate_keeps_a_worse_model_from_main(lab: Lab, newer: str) -> None:
    changes: dict[str, Any] = {
        "reports/metrics.json": '{"f1_macro": 0.3}',
        "params.yaml": lambda old: old.replace("minimum: 0.9", "minimum: 0.0"),
    }
    worse = lab.commit(changes, newer, "worse")
    before = lab.refs()
    refused = lab.run("push", {"ref": worse, "branch": "main"})
    assert refused.error == "CandidateRejected", refused.log
    assert f"the gate rejects wine@{worse[:7]}: NOT passed: f1_macro 0.3000" in refused.message
    assert lab.refs() == before


def test_errors_of_s3_are_retried(lab: Lab, saved: str) -> None:
    with faulty_s3(lab.stack.s3_endpoint_url) as s3:
        lab.block("faulty", endpoint_url=s3.url)
        s3.errors = 12  # more than one try of boto3 or DVC gets over
        done = lab.run(
            "push", {"ref": saved}, SLIPWAY_READ_WRITE_BLOCK="faulty", SLIPWAY_RETRIES="5"
        )
    assert s3.errors == 0
    assert "Task run failed with exception: TransientError" in done.log
    assert done.state == "Completed", done.log
    assert _in_bucket(lab, saved)


def test_a_slow_s3_is_waited_for(lab: Lab, saved: str) -> None:
    with faulty_s3(lab.stack.s3_endpoint_url) as s3:
        lab.block("slow", endpoint_url=s3.url)
        s3.delay = 1.0
        done = lab.run("push", {"ref": saved}, SLIPWAY_READ_WRITE_BLOCK="slow")
    assert s3.requests > 5
    assert done.state == "Completed", done.log


def test_wrong_credentials_are_terminal_at_once(lab: Lab, saved: str) -> None:
    before = lab.refs()
    failed = lab.run("push", {"ref": saved}, SLIPWAY_READ_WRITE_BLOCK="wrong-credentials")
    assert failed.error == "TerminalError"
    assert "rejected the credentials of block s3-bucket/wrong-credentials" in failed.message
    assert "Retry" not in failed.log
    assert lab.refs() == before


def test_read_only_credentials_cannot_push(lab: Lab, saved: str) -> None:
    failed = lab.run("push", {"ref": saved}, SLIPWAY_READ_WRITE_BLOCK="slipway-read")
    assert failed.error == "TerminalError"
    assert "rejected the credentials of block s3-bucket/slipway-read" in failed.message
    assert not _in_bucket(lab, saved)


def test_a_block_that_is_missing_is_named(lab: Lab, delivered: str) -> None:
    failed = lab.run("push", {"ref": "main"}, SLIPWAY_READ_WRITE_BLOCK="nobody")
    assert failed.error == "TerminalError"
    assert "block s3-bucket/nobody does not exist" in failed.message
    assert "slipway apply" in failed.message


@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_a_wrong_object_in_the_bucket_is_replaced(lab: Lab, delivered: str, damage: str) -> None:
    s3, key = lab.s3(), lab.model_key()
    good = s3.get_object(Bucket=lab.bucket, Key=key)["Body"].read()
    bad = good[:-10] if damage == "truncated" else good[:-1] + bytes([good[-1] ^ 1])
    s3.put_object(Bucket=lab.bucket, Key=key, Body=bad)
    pushed = lab.run("push", {"ref": "main"})
    assert pushed.state == "Completed", pushed.log
    assert "replacing model/wine: wrong content in the bucket" in pushed.log
    assert s3.get_object(Bucket=lab.bucket, Key=key)["Body"].read() == good


def test_bytes_that_are_nowhere_never_reach_main(lab: Lab, saved: str) -> None:
    main = lab.head()
    runtime = lab.show("model/wine.runtime.json", saved)
    md5 = runtime["artifacts"]["model/wine"]["md5"]
    cached = lab.stack.home / "dvc-cache" / "files" / "md5" / md5[:2] / md5[2:]
    content = cached.read_bytes()
    cached.unlink()
    try:
        failed = lab.run("push", {"ref": saved, "branch": "main"})
    finally:
        cached.write_bytes(content)
    assert failed.error == "TerminalError"
    assert "model/wine: neither in the bucket nor in this host's DVC cache" in failed.message
    assert lab.head() == main


def test_killed_half_way_the_next_run_finishes(lab: Lab, saved: str) -> None:
    before = lab.refs()
    with faulty_s3(lab.stack.s3_endpoint_url) as s3:
        lab.block("halting", endpoint_url=s3.url)
        s3.delay = 0.5
        run = lab.start("push", {"ref": saved}, SLIPWAY_READ_WRITE_BLOCK="halting")
        while s3.puts == 0:  # in the middle of `dvc push`
            assert run.process.poll() is None, run.log
            time.sleep(0.02)
        run.kill()
    assert lab.refs() == before
    done = lab.run("push", {"ref": saved})
    assert done.data == saved
    assert _in_bucket(lab, saved)


def test_killed_before_the_refs_move_the_next_run_finishes(lab: Lab, saved: str) -> None:
    run = lab.start("push", {"ref": saved})
    run.wait_for(f"upload wine@{saved[:7]}' - Finished")
    run.kill()
    done = lab.run("push", {"ref": saved})
    assert done.data == saved
    assert saved in [commit for ref, commit in lab.refs().items() if "/candidate/" in ref]


def test_of_two_pushed_at_once_the_newer_ends_on_main(lab: Lab, newer: str, newest: str) -> None:
    candidates = [_unpublish(lab, newer), _unpublish(lab, newest)]
    runs = [lab.start("push", {"ref": commit, "branch": "main"}) for commit in candidates]
    outcomes = [run.outcome() for run in runs]
    assert [outcome.state for outcome in outcomes] == ["Completed", "Completed"]
    _main_has(lab, newest)


@pytest.mark.parametrize("order", ["older first", "newer first"])
def test_of_two_pushed_in_turn_the_newer_ends_on_main(
    lab: Lab, newer: str, newest: str, order: str
) -> None:
    both = [newer, newest] if order == "older first" else [newest, newer]
    for commit in both:
        outcome = lab.run("push", {"ref": _unpublish(lab, commit), "branch": "main"})
        assert outcome.state == "Completed", outcome.log
    _main_has(lab, newest)


def _main_has(lab: Lab, commit: str) -> None:
    for path in ("dvc.lock", "params.yaml", "model/wine.mlem", "model/wine.golden.json"):
        assert lab.git("show", f"main:{path}") == lab.git("show", f"{commit}:{path}")


def test_a_person_who_changed_the_pipeline_meanwhile_wins(lab: Lab, saved: str) -> None:
    tip = lab.commit({"model/train.py": lambda old: old + "\n# mended\n"}, "main", "main")
    failed = lab.run("push", {"ref": saved, "branch": "main"})
    assert failed.error == "TerminalError"
    assert "the pipeline in main has changed since" in failed.message
    assert "run retrain at main" in failed.message
    assert lab.head() == tip


def test_a_person_who_changed_something_else_meanwhile_is_merged(lab: Lab, saved: str) -> None:
    lab.commit({"NOTES.md": "hello"}, "main", "main")
    pushed = lab.run("push", {"ref": saved, "branch": "main"})
    assert pushed.state == "Completed", pushed.log
    assert lab.git("show", "main:NOTES.md") == "hello"
    _main_has(lab, saved)
