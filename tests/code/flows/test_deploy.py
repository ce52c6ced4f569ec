from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from tasks.platforms.process.supervisor import Program
from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import Lab, is_in_box, select_running
from tests.code.platforms.bad_models import (
    answer_clients_otherwise,
    end_under_traffic,
    end_when_proven_again,
)
from tests.stack_access import prefect_http


@pytest.fixture(scope="module", autouse=True)
def _ends_as_it_began(lab: Lab, delivered: Delivery) -> Iterator[None]:
    """Whatever the tests do, afterwards the delivered model is live, alone."""
    yield
    if not lab.is_live(delivered.commit) or len(lab.servers()) != 1:
        _redeploy(lab, delivered.commit)


@pytest.fixture
def live(lab: Lab, delivered: Delivery, light: str) -> str:
    """The commit that is live, alone, when a test begins: one with the light model."""
    commit = lab.live_commit()
    if commit in {None, delivered.commit} or len(lab.servers()) != 1:
        _redeploy(lab, light)
    return str(lab.live()["commit"])


@pytest.fixture
def child(lab: Lab, live: str) -> str:
    """A commit to be released after the one that is live."""
    return _child(lab, live)


def _redeploy(lab: Lab, commit: str) -> None:
    parameters = {"ref": commit, "force": True, "reason": "as it began"}
    again = lab.run("deploy", parameters)
    assert again.state == "Completed", again.log


def _child(lab: Lab, parent: str) -> str:
    name = f"child-{uuid4().hex[:8]}"
    return lab.commit({"serving/settings.py": lambda old: f"{old}\n# {name}\n"}, parent, name)


def _broken(lab: Lab, live: str, name: str, path: str, change: Any) -> str:
    return lab.commit({path: change}, live, f"broken-{name}")


def _untouched(lab: Lab, live: str) -> None:
    assert lab.live()["commit"] == live
    assert len(lab.servers()) == 1
    folders = [path.name for path in (lab.stack.home / "bundles" / "local").iterdir()]
    assert not [name for name in folders if name.endswith(".partial")]


# What is refused before anything is unpickled


def test_unknown_environment_lists_the_known_ones(lab: Lab, delivered: Delivery) -> None:
    refused = lab.run("deploy", {"environment": "moon"})
    assert refused.error == "ConfigurationError"
    assert "environment 'moon' does not exist; known: " in refused.message
    assert "local" in refused.message
    assert "checked out" not in refused.log


def test_ref_that_does_not_exist_is_terminal(lab: Lab, delivered: Delivery) -> None:
    refused = lab.run("deploy", {"ref": "wine@v0.0.9"})
    assert refused.error == "TerminalError"
    assert "ref 'wine@v0.0.9' does not exist on origin; did you mean 'wine@v0.0." in refused.message
    assert "Retry" not in refused.log


def test_ref_without_a_saved_model_names_the_flow_to_run(lab: Lab, live: str) -> None:
    commit = _broken(lab, live, "mlem", "model/wine.mlem", None)
    refused = lab.run("deploy", {"ref": commit})
    assert refused.error == "TerminalError"
    assert f"model/wine.mlem is missing at {commit}" in refused.message
    assert f"run the save flow at {commit}" in refused.message
    _untouched(lab, live)


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_wrong_bytes_in_the_bucket_are_refused_before_unpickling(
    lab: Lab, live: str, child: str, damage: str
) -> None:
    s3, key = lab.s3(), lab.model_key(child)
    good = s3.get_object(Bucket=lab.bucket, Key=key)["Body"].read()
    if damage == "missing":
        s3.delete_object(Bucket=lab.bucket, Key=key)
    elif damage == "truncated":
        s3.put_object(Bucket=lab.bucket, Key=key, Body=good[: len(good) // 2])
    else:  # the same size, and metadata that claims the right hash
        md5 = lab.show("model/wine.runtime.json", child)["artifacts"]["model/wine"]["md5"]
        body = good[:-1] + bytes([good[-1] ^ 1])
        s3.put_object(Bucket=lab.bucket, Key=key, Body=body, Metadata={"md5": md5, "etag": md5})
    try:
        refused = lab.run("deploy", {"ref": child})
    finally:
        s3.put_object(Bucket=lab.bucket, Key=key, Body=good)
    expected = "TerminalError" if damage == "missing" else "CandidateRejected"
    assert refused.error == expected, refused.log
    assert "preflight" not in refused.log
    says = "is not in the bucket" if damage == "missing" else "is not the model that was saved"
    assert says in refused.message
    assert "run the push flow" in refused.message
    _untouched(lab, live)


def test_wrong_credentials_are_terminal_at_once(lab: Lab, live: str, child: str) -> None:
    refused = lab.run("deploy", {"ref": child}, SLIPWAY_READ_BLOCK="wrong-credentials")
    assert refused.error == "TerminalError"
    assert "rejected the credentials of block s3-bucket/wrong-credentials" in refused.message
    assert "Retry" not in refused.log
    _untouched(lab, live)


# What is refused by preflight, and what is rolled back; for which reasons: see the tests of targets

_SLEEP = "import time\nprint('waiting for Godot', flush=True)\ntime.sleep(600)\n"


def test_server_that_crashes_at_start_is_rejected_in_preflight(lab: Lab, live: str) -> None:
    crash = "import sys\nsys.exit('cannot go on')\n"
    commit = _broken(lab, live, "crash", "serving/__main__.py", crash)
    with lab.traffic() as traffic:
        refused = lab.run("deploy", {"ref": commit})
    assert refused.error == "CandidateRejected", refused.log
    assert "ended at start:\ncannot go on" in refused.message
    assert "release wine" not in refused.log
    assert traffic.answered
    assert traffic.failures == []
    _untouched(lab, live)


def test_server_that_fails_after_preflight_is_rolled_back(lab: Lab, live: str) -> None:
    path = "serving/predictor.py"
    commit = _broken(lab, live, "two-faced", path, end_when_proven_again)
    with lab.traffic() as traffic:
        failed = lab.run("deploy", {"ref": commit})
    assert failed.error == "CandidateRejected", failed.log
    assert "no room here" in failed.message
    assert "rolled back" in failed.log
    assert traffic.failures == []
    _untouched(lab, live)


def test_server_that_crashes_under_traffic_is_rolled_back(lab: Lab, live: str) -> None:
    # The public URL is proven last: this one dies half a second after a client has asked it.
    commit = _broken(lab, live, "mortal", "serving/predictor.py", end_under_traffic)
    with lab.traffic():
        failed = lab.run("deploy", {"ref": commit}, SLIPWAY_LOCAL_SOAK_SECONDS="60")
    assert failed.state == "Failed", failed.log
    assert "rolled back" in failed.log
    _untouched(lab, live)
    httpx.get(f"{lab.url}/readyz", trust_env=False).raise_for_status()


# What happens at the same time, and in which order


def test_switching_under_load_loses_no_request_and_needs_no_right_to_write(
    lab: Lab, live: str, child: str
) -> None:
    newest = _child(lab, child)
    with lab.traffic(clients=4, pause=0.02) as traffic:
        for commit in (child, newest):
            deployed = lab.run("deploy", {"ref": commit}, SLIPWAY_READ_WRITE_BLOCK="nobody")
            assert deployed.data["outcome"] == "live"
    assert traffic.answered > 200
    assert traffic.failures == []
    assert lab.live()["commit"] == newest
    assert lab.live()["version"] != "v0.0.1"
    assert f"refs/tags/wine@{lab.live()['version']}" in lab.refs()


def test_older_commit_is_superseded(lab: Lab, live: str, child: str) -> None:
    assert lab.run("deploy", {"ref": child}).data["outcome"] == "live"
    outcome = lab.run("deploy", {"ref": live})
    assert outcome.state == "Superseded"
    assert outcome.data["outcome"] == "superseded"
    assert lab.live()["commit"] == child


def test_newer_of_two_concurrent_deploys_ends_live(lab: Lab, child: str) -> None:
    grandchild = _child(lab, child)
    runs = [lab.start("deploy", {"ref": commit}) for commit in (grandchild, child)]
    outcomes = [run.outcome() for run in runs]
    assert {outcome.state for outcome in outcomes} <= {"Completed", "Superseded"}, outcomes
    assert "is locked by flow run" in outcomes[0].log + outcomes[1].log
    assert lab.live()["commit"] == grandchild
    assert len(lab.servers()) == 1


def test_deploy_completes_after_runs_killed_at_each_step(lab: Lab, live: str, child: str) -> None:
    with lab.traffic(clients=2) as traffic:
        # After each, two servers run.
        for step in ("preflight", "release"):
            run = lab.start("deploy", {"ref": child})
            # A step's name is in the log when it has finished: kill the run in the one after it.
            run.wait_for(f"'{step} wine@{child[:7]}' - Finished")
            run.kill()
            assert lab.live()["commit"] == live
            assert len(lab.servers()) == 2
        # When traffic has moved: what nobody has seen through its soak is proven anew.
        run = lab.start("deploy", {"ref": child}, SLIPWAY_LOCAL_SOAK_SECONDS="60")
        while not lab.is_live(child):
            assert run.process.poll() is None, run.log
            time.sleep(0.05)
        run.kill()
        again = lab.run("deploy", {"ref": child})
    assert again.state == "Completed", again.log
    assert again.data["reason"] == "released"
    assert traffic.failures == []
    assert lab.live()["commit"] == child
    assert len(lab.servers()) == 1
    assert lab.git("rev-list", "-1", lab.live_tag()) == child


@pytest.mark.parametrize("step", ["verify wine", "release wine"])
def test_cancelled_deploy_stops_its_server_and_releases_the_lock(
    lab: Lab, live: str, child: str, step: str
) -> None:
    run = lab.start("deploy", {"ref": child}, SLIPWAY_LOCAL_SOAK_SECONDS="60")
    run.wait_for(f"'{step}@{child[:7]}' - Finished")
    children = psutil.Process(run.process.pid).children(recursive=True)
    run.cancel()
    assert not select_running(children)
    assert lab.live()["commit"] == live
    assert len(lab.servers()) == 1
    assert lab.run("deploy", {"ref": live}).data["reason"] == "already live"


def test_live_server_that_stopped_is_replaced(lab: Lab, live: str) -> None:
    (server,) = lab.servers()
    lab.stack.supervisor.stop(server)
    again = lab.run("deploy", {"ref": live})
    assert again.state == "Completed", again.log
    assert lab.live()["commit"] == live
    assert lab.servers() != [server]


def test_killed_server_is_restarted_by_supervisord(lab: Lab, live: str) -> None:
    (server,) = lab.servers()
    running = psutil.Process(lab.stack.supervisor.programs()[server]["pid"])
    # bubblewrap's own process stays outside; what it has started last is the server.
    (served,) = [child for child in running.children(recursive=True) if not child.children()]
    assert "serving" in served.cmdline()
    assert is_in_box(served)
    running.kill()
    deadline = time.monotonic() + 30
    while not lab.is_live(live):
        assert time.monotonic() < deadline, "nobody started it again"
        time.sleep(0.1)
    assert lab.servers() == [server]


def test_old_releases_are_removed_but_not_those_of_an_environment_with_a_longer_name(
    lab: Lab, live: str
) -> None:
    supervisor, folder = lab.stack.supervisor, lab.stack.home / "supervisor" / "conf.d"
    other = Program("model-local-eu-20260101T000000-abcdef0-1234", ("sleep", "600"), folder)
    supervisor.add(other, folder, lab.stack.logs)
    try:
        for _ in range(2):
            parameters = {"ref": live, "force": True, "reason": "to have one more"}
            deployed = lab.run("deploy", parameters,
                           SLIPWAY_LOCAL_KEEP="2", SLIPWAY_LOCAL_SOAK_SECONDS="0")  # fmt: skip
            assert deployed.data["reason"] == "released"
        assert supervisor.programs(other.name)[other.name]["statename"] == "RUNNING"
    finally:
        supervisor.remove([other.name], folder)
    # With the one before them there were three.
    assert len(list((lab.stack.home / "bundles" / "local").iterdir())) == 2


def test_preflight_server_of_a_killed_run_is_ended_by_the_next_run(lab: Lab, live: str) -> None:
    commit = _broken(lab, live, "waiting", "serving/__main__.py", _SLEEP)
    run = lab.start("deploy", {"ref": commit})
    while len(lab.servers()) < 2:
        assert run.process.poll() is None, run.log
        time.sleep(0.05)
    run.kill(alone=True)
    assert lab.run("deploy", {"ref": live}).data["reason"] == "already live"
    _untouched(lab, live)


def test_version_that_answers_otherwise_is_rejected_under_shadow_traffic(
    lab: Lab, live: str
) -> None:
    commit = _broken(lab, live, "otherwise", "serving/predictor.py", answer_clients_otherwise)
    with lab.traffic(clients=2) as traffic:
        killed = lab.start("deploy", {"ref": commit}, SLIPWAY_LOCAL_SHADOW="1h")
        killed.wait_for("live requests are mirrored to ")
        killed.kill()
        assert lab.live()["commit"] == live
        assert len(lab.servers()) == 2
        # The next one ends what the killed one has left.
        rules = '{"requests": 20, "max_disagreement": 0.5}'
        refused = lab.run("deploy", {"ref": commit}, SLIPWAY_LOCAL_SHADOW=rules)
    assert traffic.failures == []
    assert refused.error == "CandidateRejected", refused.log
    assert "`shadow.max_disagreement` of local is 50.00%" in refused.message
    with prefect_http(lab.stack) as http:
        query = {"artifacts": {"key": {"any_": ["wine-local-release"]}}, "sort": "CREATED_DESC"}
        note = http.post("/artifacts/filter", json=query).raise_for_status().json()[0]["data"]
    assert "| outcome | **rejected** |" in note
    assert "## Shadow traffic" in note
    assert "| `0.0` | `2.0` | " in note
    _untouched(lab, live)
