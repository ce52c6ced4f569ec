"""A real local stack: its programs, its ports, its secrets, and its recovery."""

from __future__ import annotations

import contextlib
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import psutil
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from deployments.local import processes
from deployments.local.credentials import S3Identity
from deployments.local.prefect_programs import WORK_POOL
from deployments.local.stack import Stack
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import State
from tasks.core.errors import TerminalError
from tasks.platforms.base.settings import HostEnvironment
from tasks.platforms.catalogue import environment_names, load_environment
from tests.stack_access import prefect_http, wait_for_end

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PROGRAMS = {"postgres", "object-store", "prefect-server", "prefect-worker", "gateway"}


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[PrefectAPI]:
    with stack.open_api() as client:
        yield client


def s3(stack: Stack, identity: S3Identity | None) -> S3Client:
    settings = Config(retries={"max_attempts": 1})
    if identity is None:
        settings = settings.merge(Config(signature_version=UNSIGNED))
    return boto3.client(
        "s3",
        endpoint_url=stack.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=identity.key_id if identity else None,
        aws_secret_access_key=identity.secret if identity else None,
        config=settings,
    )


def refused(call: Callable[[], object]) -> bool:
    with pytest.raises(ClientError) as error:
        call()
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def state_names(stack: Stack, run_id: str) -> list[str]:
    """Return the names of the states that a run was in, in order."""
    with prefect_http(stack) as http:
        states = http.get("/flow_run_states/", params={"flow_run_id": run_id}).raise_for_status()
    return [entry["name"] for entry in sorted(states.json(), key=lambda item: item["timestamp"])]


def test_second_up_changes_nothing(stack: Stack) -> None:
    stack.up()
    before = json.loads((stack.home / "stack.json").read_text())
    assert before["pids"].keys() >= PROGRAMS
    stack.up()
    after = json.loads((stack.home / "stack.json").read_text())
    assert {name: after["pids"][name] for name in PROGRAMS} == {
        name: before["pids"][name] for name in PROGRAMS
    }
    assert after["ports"] == before["ports"]


def test_new_environment_is_served_from_the_next_up_on(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(json.dumps({"ports": {"local": 8080}}))
    assert Stack(tmp_path).host_environments == ("local",)


def test_every_environment_has_a_port_of_its_own(stack: Stack) -> None:
    urls = [stack.model_url(name) for name in stack.host_environments]
    here = [name for name in environment_names()
            if isinstance(load_environment(name), HostEnvironment)]  # fmt: skip
    assert stack.host_environments == tuple(here)
    assert len(set(urls)) == len(urls)


def test_read_only_identity_cannot_write(stack: Stack) -> None:
    storage = stack.storage
    write, read = s3(stack, storage.read_write), s3(stack, storage.read)
    write.put_object(Bucket=storage.bucket, Key="test/a", Body=b"a")
    assert read.get_object(Bucket=storage.bucket, Key="test/a")["Body"].read() == b"a"
    assert read.list_objects_v2(Bucket=storage.bucket, Prefix="test/")["KeyCount"] == 1
    assert refused(lambda: read.put_object(Bucket=storage.bucket, Key="test/b", Body=b""))
    assert refused(lambda: read.delete_object(Bucket=storage.bucket, Key="test/a"))
    assert refused(lambda: write.create_bucket(Bucket="another"))
    assert refused(lambda: write.delete_bucket(Bucket=storage.bucket))
    write.delete_object(Bucket=storage.bucket, Key="test/a")


@pytest.mark.parametrize("who", ["nobody", "wrong secret", "unknown key"])
def test_s3_server_refuses_other_identities(stack: Stack, who: str) -> None:
    storage = stack.storage
    identity = {
        "nobody": None,
        "wrong secret": S3Identity(storage.read_write.key_id, "0" * 40),
        "unknown key": S3Identity("0" * 20, storage.read_write.secret),
    }[who]
    client = s3(stack, identity)
    assert refused(lambda: client.list_objects_v2(Bucket=storage.bucket))
    assert refused(lambda: client.put_object(Bucket=storage.bucket, Key="test/x", Body=b""))


def test_s3_server_has_no_open_port_without_credentials(stack: Stack) -> None:
    doors = [name for name in stack.ports if name.startswith("s3-") and "grpc" not in name]
    assert doors
    with httpx.Client(trust_env=False) as client:
        for name in doors:
            base = f"http://127.0.0.1:{stack.ports[name]}"
            for path in ("/dir/assign", "/dir/status", "/vol/grow?count=1", "/buckets/models/"):
                assert client.get(base + path).status_code in {401, 404}, (name, path)
            for path in ("/submit", "/buckets/models/x", "/1,0"):
                assert client.post(base + path, files={"file": b"x"}).is_client_error, (name, path)


def test_programs_listen_on_loopback_alone(stack: Stack) -> None:
    addresses = set()
    for process in processes.of_stack(stack.credentials.stack):
        with contextlib.suppress(psutil.NoSuchProcess):  # a run, or a query, has just ended
            connections = process.net_connections(kind="inet")
            listeners = [item for item in connections if item.status == psutil.CONN_LISTEN]
            addresses |= {item.laddr.ip for item in listeners}
    assert addresses == {"127.0.0.1"}


def test_secrets_are_in_private_files_alone(stack: Stack) -> None:
    secrets = stack.credentials
    words = {
        secrets.read_write.secret,
        secrets.read.secret,
        secrets.signing,
        secrets.supervisor,
        secrets.database,
        secrets.prefect,
    }
    private = {
        stack.home / "secrets" / "credentials.json",
        stack.home / "object-store" / "identities.json",
        stack.home / "object-store" / "security.toml",
        stack.home / "supervisor" / "supervisord.conf",
        stack.home / "dvc.config",
    }
    for path in stack.home.rglob("*"):
        if path.is_file() and path not in private and path.stat().st_size < 20_000_000:
            content = path.read_bytes()
            assert not any(word.encode() in content for word in words), path
    for path in private:
        assert path.stat().st_mode & 0o077 == 0
    assert stack.home.stat().st_mode & 0o077 == 0
    for process in processes.of_stack(secrets.stack):
        assert not any(word in argument for word in words for argument in process.cmdline())
    s3_secrets = {secrets.read_write.secret, secrets.read.secret}
    assert not s3_secrets & set(stack.environment().values())


def test_worker_keeps_its_settings_while_flow_runs_are_under_way(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worker() -> int:
        return int(json.loads((stack.home / "stack.json").read_text())["pids"]["prefect-worker"])

    stack.up()
    before = worker()
    monkeypatch.setenv("SLIPWAY_OF_ANOTHER_SHELL", "1")
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)", "prefect.engine"],
        env={processes.MARKER: stack.credentials.stack},
    ) as run:
        while not psutil.Process(run.pid).environ():
            time.sleep(0.01)
        stack.up(lines.append)
        run.kill()
    assert worker() == before
    assert any("flow runs are under way" in line for line in lines)
    # A run that another test has left under way holds it back as well, until it ends.
    deadline = time.monotonic() + 200
    while lines and time.monotonic() < deadline:
        lines.clear()
        stack.up(lines.append)
        lines = [line for line in lines if "flow runs are under way" in line]
    assert worker() != before
    monkeypatch.delenv("SLIPWAY_OF_ANOTHER_SHELL")
    stack.up()


_IN_A_DAY = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)


@pytest.mark.parametrize("schedule", [
    {"interval": 86400 * 30, "anchor_date": _IN_A_DAY.isoformat()},
    {"cron": "0 4 * * 1", "timezone": "Europe/Berlin"},
], ids=["interval", "cron"])  # fmt: skip
def test_schedule_creates_runs(stack: Stack, api: PrefectAPI, schedule: dict[str, Any]) -> None:
    name = "train/train"
    with prefect_http(stack) as client:
        deployment = client.get(f"/deployments/name/{name}").raise_for_status().json()["id"]
        made = client.post(
            f"/deployments/{deployment}/schedules", json=[{"active": True, "schedule": schedule}]
        )
        made.raise_for_status()
        try:
            deadline = time.monotonic() + 30
            while not api.find_runs(["SCHEDULED"], deployment=name):
                assert time.monotonic() < deadline, "the scheduler makes no runs"
                time.sleep(0.5)
        finally:
            schedule_id = made.json()[0]["id"]
            client.delete(f"/deployments/{deployment}/schedules/{schedule_id}").raise_for_status()
        assert not api.find_runs(["SCHEDULED"], deployment=name)


def test_same_key_returns_the_same_run_and_its_failure_has_a_message(api: PrefectAPI) -> None:
    ref = {"ref": "no-such-ref"}
    run = api.create_run("deploy/local", ref, idempotency_key="once")
    assert api.create_run("deploy/local", ref, idempotency_key="once").id == run.id
    last = wait_for_end(api, run.id)
    assert last.state == "FAILED"
    assert "no-such-ref" in last.message
    deadline = time.monotonic() + 30  # the log follows the state
    while not any("no-such-ref" in line.message for line in api.read_logs([run.id])):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_unknown_deployment_is_a_terminal_error(api: PrefectAPI) -> None:
    with pytest.raises(TerminalError, match="404"):
        api.create_run("deploy/nowhere", {})
    with pytest.raises(TerminalError, match="force"):
        api.create_run("deploy/local", {"force": "perhaps"})
    with pytest.raises(TerminalError, match="'moon' is not one of"):
        api.create_run("deploy/local", {"environment": "moon"})


def wait_for_worker_and_engine(stack: Stack, run_id: str) -> list[psutil.Process]:
    deadline = time.monotonic() + 60
    while True:
        worker, engine = [], []
        for process in processes.of_stack(stack.credentials.stack):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself
                words = process.cmdline()
                if words[1:3] == ["-m", "deployments.local.worker"]:
                    worker.append(process)
                elif (
                    "prefect.engine" in words
                    and process.environ().get("PREFECT__FLOW_RUN_ID") == run_id
                ):
                    engine.append(process)
        if worker and engine:
            return [*worker, *engine]
        assert time.monotonic() < deadline, "no process works on the run"
        time.sleep(0.05)


def test_runs_without_worker_and_process_are_recovered_once_and_free_their_slots(
    stack: Stack, api: PrefectAPI
) -> None:
    with prefect_http(stack) as http:
        http.patch(f"/work_pools/{WORK_POOL}", json={"is_paused": True}).raise_for_status()
    ref = {"ref": "no-such-ref"}
    taken, cancelling = (api.create_run("train/train", ref) for _ in range(2))
    api.force_state(taken.id, State("PENDING", "Pending", "a worker has taken it"))
    api.force_state(cancelling.id, State("CANCELLING", "Cancelling", "somebody cancels it"))
    with prefect_http(stack) as http:
        http.patch(f"/work_pools/{WORK_POOL}", json={"is_paused": False}).raise_for_status()
    run = api.create_run("deploy/local", {"ref": "main"})
    # The run fails soon, as nothing is trained: who is to be killed is known before it is Running.
    victims = wait_for_worker_and_engine(stack, run.id)
    while (state := api.read_run(run.id).state) != "RUNNING":
        assert state in ("PENDING", "SCHEDULED"), "it was over before it was killed"
        time.sleep(0.05)
    for process in victims:
        process.kill()
    deadline = time.monotonic() + 120
    while not (api.read_run(run.id).finished and state_names(stack, run.id).count("Running") == 2):
        assert time.monotonic() < deadline, state_names(stack, run.id)
        time.sleep(0.2)
    assert state_names(stack, run.id).count("Crashed") == 1
    assert wait_for_end(api, taken.id).state == "FAILED"  # it was started after all: no such ref
    assert wait_for_end(api, cancelling.id).state == "CANCELLED"
    after = api.create_run("deploy/local", {"ref": "no-such-ref"})
    assert wait_for_end(api, after.id).state == "FAILED"  # that it ran at all is what matters
