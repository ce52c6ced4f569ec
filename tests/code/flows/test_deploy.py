from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tasks.platforms.host.supervisor import Program
from tests.code.flows.conftest import Delivery
from tests.code.flows.harness import Lab, alive


@pytest.fixture(autouse=True)
def _ends_as_it_began(lab: Lab, delivered: Delivery) -> Iterator[None]:
    """Whatever a test does, afterwards the delivered model is live, alone."""
    yield
    if not lab.is_live(delivered.commit) or len(lab.servers()) != 1:
        again = lab.run("deploy", {"ref": delivered.commit, "force": True})
        assert again.state == "Completed", again.log


def _broken(lab: Lab, delivered: Delivery, name: str, path: str, change: Any) -> str:
    return lab.commit({path: change}, delivered.commit, f"broken-{name}")


def _untouched(lab: Lab, delivered: Delivery) -> None:
    assert lab.live()["commit"] == delivered.commit
    assert len(lab.servers()) == 1
    folders = [path.name for path in (lab.stack.home / "bundles" / "local").iterdir()]
    assert not [name for name in folders if name.endswith(".partial")]


# What is refused before anything is unpickled


def test_an_unknown_environment_names_the_known_ones(lab: Lab, delivered: Delivery) -> None:
    refused = lab.run("deploy", {"environment": "moon"})
    assert refused.error == "ConfigurationError"
    assert "environment 'moon' does not exist; known: " in refused.message
    assert "local" in refused.message
    assert "checked out" not in refused.log


def test_a_ref_that_does_not_exist_is_terminal(lab: Lab, delivered: Delivery) -> None:
    refused = lab.run("deploy", {"ref": "wine@v0.0.9"})
    assert refused.error == "TerminalError"
    assert "ref 'wine@v0.0.9' does not exist on origin; did you mean 'wine@v0.0." in refused.message
    assert "Retry" not in refused.log


def test_a_ref_without_a_saved_model_names_the_flow_to_run(lab: Lab, delivered: Delivery) -> None:
    commit = _broken(lab, delivered, "mlem", "model/wine.mlem", None)
    refused = lab.run("deploy", {"ref": commit})
    assert refused.error == "TerminalError"
    assert f"model/wine.mlem is missing at {commit}" in refused.message
    assert f"run the save flow at {commit}" in refused.message
    _untouched(lab, delivered)


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_wrong_bytes_in_the_bucket_are_refused_before_unpickling(
    lab: Lab, delivered: Delivery, newer: str, damage: str
) -> None:
    s3, key = lab.s3(), lab.model_key(newer)
    good = s3.get_object(Bucket=lab.bucket, Key=key)["Body"].read()
    if damage == "missing":
        s3.delete_object(Bucket=lab.bucket, Key=key)
    elif damage == "truncated":
        s3.put_object(Bucket=lab.bucket, Key=key, Body=good[:100])
    else:  # the same size, and metadata that claims the right hash
        md5 = lab.show("model/wine.runtime.json", newer)["artifacts"]["model/wine"]["md5"]
        body = good[:-1] + bytes([good[-1] ^ 1])
        s3.put_object(Bucket=lab.bucket, Key=key, Body=body, Metadata={"md5": md5, "etag": md5})
    try:
        refused = lab.run("deploy", {"ref": newer})
    finally:
        s3.put_object(Bucket=lab.bucket, Key=key, Body=good)
    assert refused.error == "TerminalError", refused.log
    assert "preflight" not in refused.log
    says = "missing" if damage == "missing" else "is not the model that was saved"
    assert says in refused.message
    assert "run the push flow" in refused.message
    _untouched(lab, delivered)


def test_deploying_needs_no_right_to_write(lab: Lab, newer: str) -> None:
    done = lab.run("deploy", {"ref": newer}, SLIPWAY_READ_WRITE_BLOCK="nobody")
    assert done.state == "Completed", done.log
    assert lab.live()["commit"] == newer


def test_wrong_credentials_are_terminal_at_once(lab: Lab, delivered: Delivery, newer: str) -> None:
    refused = lab.run("deploy", {"ref": newer}, SLIPWAY_READ_BLOCK="wrong-credentials")
    assert refused.error == "TerminalError"
    assert "refuses the credentials of block s3-bucket/wrong-credentials" in refused.message
    assert "Retry" not in refused.log
    _untouched(lab, delivered)


# What preflight refuses


def _other_prediction(text: str) -> str:
    golden = json.loads(text)
    golden["outputs"]["predict"][3] = (golden["outputs"]["predict"][3] + 1) % 3
    return json.dumps(golden)


_CRASH = "import sys\nsys.exit('cannot go on')\n"
_SLEEP = "import time\nprint('waiting for Godot', flush=True)\ntime.sleep(600)\n"


@pytest.mark.parametrize(
    ("name", "path", "change", "says"),
    [
        ("golden", "model/wine.golden.json", _other_prediction, "golden"),
        ("crash", "serving/__main__.py", _CRASH, "ended at start:\ncannot go on"),
        ("sleep", "serving/__main__.py", _SLEEP, "not get ready within 6 s:\nwaiting for Godot"),
    ],
)
def test_what_does_not_run_as_it_was_saved_fails_in_preflight(
    lab: Lab, delivered: Delivery, name: str, path: str, change: Any, says: str
) -> None:
    commit = _broken(lab, delivered, name, path, change)
    with lab.traffic() as traffic:
        patience = {"SLIPWAY_LOCAL_READY_SECONDS": "6"} if name == "sleep" else {}
        refused = lab.run("deploy", {"ref": commit}, **patience)
    assert refused.error == "TerminalError", refused.log
    assert says in refused.message
    assert "release wine" not in refused.log
    assert traffic.answered
    assert traffic.failures == []
    _untouched(lab, delivered)


# What is rolled back

# Behaves in preflight; where supervisord runs it, it answers otherwise.
_TWO_FACED = """
import os
if "SUPERVISOR_ENABLED" in os.environ:
    {deed}
"""


def test_a_server_that_fails_after_preflight_is_rolled_back(lab: Lab, delivered: Delivery) -> None:
    crash = _TWO_FACED.format(deed="raise SystemExit('no room here')")
    commit = _broken(
        lab, delivered, "two-faced", "serving/__main__.py", lambda old: _after_doc(old, crash)
    )
    with lab.traffic() as traffic:
        failed = lab.run("deploy", {"ref": commit}, SLIPWAY_LOCAL_READY_SECONDS="10")
    assert failed.error == "TerminalError", failed.log
    assert "no room here" in failed.message
    assert "rolled back" in failed.log
    assert traffic.failures == []
    _untouched(lab, delivered)


def _after_doc(source: str, code: str) -> str:
    doc, _, rest = source.partition('"""\n')
    return f'{doc}"""\n{code}\n{rest}'


def test_a_model_that_goes_wrong_under_traffic_is_rolled_back(
    lab: Lab, delivered: Delivery
) -> None:
    # The public URL is proven last: this one dies a second after it was verified.
    deed = "import threading; threading.Timer(4.0, lambda: os._exit(1)).start()"
    commit = _broken(
        lab, delivered, "mortal", "serving/__main__.py",
        lambda old: _after_doc(old, _TWO_FACED.format(deed=deed)),
    )  # fmt: skip
    failed = lab.run("deploy", {"ref": commit}, SLIPWAY_LOCAL_SOAK_SECONDS="12")
    assert failed.state == "Failed", failed.log
    assert "rolled back" in failed.log
    _untouched(lab, delivered)
    httpx.get(f"{lab.url}/readyz", trust_env=False).raise_for_status()


# What happens at the same time, and in which order


def test_switching_under_load_loses_no_request(
    lab: Lab, delivered: Delivery, newer: str, newest: str
) -> None:
    with lab.traffic(clients=4) as traffic:
        for commit in (newer, newest):
            assert lab.run("deploy", {"ref": commit}).data["outcome"] == "live"
    assert traffic.answered > 200
    assert traffic.failures == []
    assert lab.live()["commit"] == newest
    assert lab.live()["version"] != "v0.0.1"
    assert f"refs/tags/wine@{lab.live()['version']}" in lab.refs()


def test_an_older_commit_is_superseded(lab: Lab, delivered: Delivery) -> None:
    child = lab.commit({"serving/settings.py": lambda old: old + "\n"}, delivered.commit, "child")
    assert lab.run("deploy", {"ref": child}).data["outcome"] == "live"
    outcome = lab.run("deploy", {"ref": delivered.commit})
    assert outcome.state == "Superseded"
    assert outcome.data["outcome"] == "superseded"
    assert lab.live()["commit"] == child


def test_of_two_at_once_the_newer_ends_live(lab: Lab, delivered: Delivery) -> None:
    child = lab.commit(
        {"serving/settings.py": lambda old: old + "\n# one\n"}, delivered.commit, "one"
    )
    grandchild = lab.commit({"serving/settings.py": lambda old: old + "\n# two\n"}, child, "two")
    runs = [lab.start("deploy", {"ref": commit}) for commit in (grandchild, child)]
    outcomes = [run.outcome() for run in runs]
    assert {outcome.state for outcome in outcomes} <= {"Completed", "Superseded"}, outcomes
    assert "is locked by flow run" in outcomes[0].log + outcomes[1].log
    assert lab.live()["commit"] == grandchild
    assert len(lab.servers()) == 1


# After the one, nothing has been started; the other, two servers run; the last, traffic has moved.
@pytest.mark.parametrize("step", ["preflight wine", "release wine", "settle wine"])
def test_killed_at_any_step_the_next_run_completes(
    lab: Lab, delivered: Delivery, newer: str, step: str
) -> None:
    with lab.traffic(clients=2) as traffic:
        run = lab.start("deploy", {"ref": newer})
        # A step's name is in the log when it has finished: kill the run in the one after it.
        run.wait_for(f"'{step}@{newer[:7]}' - Finished")
        run.kill()
        assert lab.live()["commit"] in {delivered.commit, newer}
        again = lab.run("deploy", {"ref": newer})
    assert again.state == "Completed", again.log
    assert traffic.failures == []
    assert lab.live()["commit"] == newer
    assert len(lab.servers()) == 1
    assert lab.git("rev-list", "-1", lab.live_tag()) == newer


@pytest.mark.parametrize("step", ["verify wine", "release wine"])
def test_cancelled_it_stops_what_it_started_and_lets_go(
    lab: Lab, delivered: Delivery, newer: str, step: str
) -> None:
    run = lab.start("deploy", {"ref": newer}, SLIPWAY_LOCAL_SOAK_SECONDS="60")
    run.wait_for(f"'{step}@{newer[:7]}' - Finished")
    children = psutil.Process(run.process.pid).children(recursive=True)
    run.process.terminate()
    run.process.wait(20)
    assert not alive(children)
    assert lab.live()["commit"] == delivered.commit
    assert len(lab.servers()) == 1
    assert lab.run("deploy", {"ref": delivered.commit}).data["reason"] == "already live"


def test_a_live_server_that_died_is_replaced(lab: Lab, delivered: Delivery) -> None:
    (server,) = lab.servers()
    lab.stack.supervisor.stop(server)
    again = lab.run("deploy", {"ref": delivered.commit})
    assert again.state == "Completed", again.log
    assert lab.live()["commit"] == delivered.commit
    assert lab.servers() != [server]


def test_a_killed_server_is_started_again_by_itself(lab: Lab, delivered: Delivery) -> None:
    (server,) = lab.servers()
    os.kill(lab.stack.supervisor.programs()[server]["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not lab.is_live(delivered.commit):
        assert time.monotonic() < deadline, "nobody started it again"
        time.sleep(0.1)
    assert lab.servers() == [server]


def test_no_more_releases_are_kept_than_asked_for(lab: Lab, delivered: Delivery) -> None:
    for _ in range(3):
        done = lab.run("deploy", {"ref": delivered.commit, "force": True},
                       SLIPWAY_LOCAL_KEEP="2", SLIPWAY_LOCAL_SOAK_SECONDS="0")  # fmt: skip
        assert done.state == "Completed", done.log
    assert len(list((lab.stack.home / "bundles" / "local").iterdir())) == 2


def test_a_deploy_leaves_environments_with_a_longer_name_alone(
    lab: Lab, delivered: Delivery
) -> None:
    supervisor, folder = lab.stack.supervisor, lab.stack.home / "supervisor" / "conf.d"
    other = Program("model-local-eu-20260101T000000-abcdef0-1234", ("sleep", "600"), folder)
    supervisor.add(other, folder, lab.stack.logs)
    try:
        done = lab.run("deploy", {"ref": delivered.commit, "force": True})
        assert done.data["reason"] == "released"
        assert supervisor.programs(other.name)[other.name]["statename"] == "RUNNING"
    finally:
        supervisor.remove(other.name, folder)


def test_killed_alone_its_preflight_server_is_ended_by_the_next_run(
    lab: Lab, delivered: Delivery
) -> None:
    commit = _broken(lab, delivered, "waiting", "serving/__main__.py", _SLEEP)
    run = lab.start("deploy", {"ref": commit})
    deadline = time.monotonic() + 60
    while not (servers := [
        child for child in psutil.Process(run.process.pid).children(recursive=True)
        if "serving" in child.cmdline()
    ]):  # fmt: skip
        assert time.monotonic() < deadline, run.log
        time.sleep(0.1)
    run.kill(alone=True)
    assert alive(servers)
    assert lab.run("deploy", {"ref": delivered.commit}).data["reason"] == "already live"
    assert not alive(servers)
    _untouched(lab, delivered)
