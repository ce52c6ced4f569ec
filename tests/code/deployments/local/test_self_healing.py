"""Self-healing: server, worker and database killed, runs cancelled, late and failed.

The server lives in one time zone, the worker in another.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from benchmarks.kill_scene import Scene, await_none
from deployments.local import adoption, postgres, prefect_programs, processes
from deployments.local.stack import UNSUPERVISED, Stack
from deployments.prefect_api.models import FlowRun, State
from tasks.core.errors import TransientError
from tasks.core.settings import CHECKOUT
from tests.code.flows.harness import Lab, flow_fork_server, select_running
from tests.shared_stack import stop_at_end
from tests.stack_access import prefect_http, wait_for_end

pytestmark = pytest.mark.timeout(900)  # the first test waits for what most of the others look at
SECONDS = 240.0
# Little more than the time between two heartbeats; and as little as Prefect takes, while no worker
# is to start any run.
LOST_SECONDS, LATE_SECONDS = 45, 10
PROGRAMS = {"postgres", "object-store", "prefect-server", "prefect-worker", "gateway"}
SECRET, FOR_WORKER = "not-for-programs", "for-the-worker"


def wait_until(true: Callable[[], Any], what: str, every: float = 0.3) -> Any:
    """Wait; a second between two questions to the server, where nothing depends on less."""
    deadline = time.monotonic() + SECONDS
    while not (result := true()):
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(every)
    return result


@pytest.fixture(scope="module")
def letters() -> Iterator[list[dict[str, str]]]:
    """The notifications that a receiver got; its URL is in the first entry."""
    received: list[dict[str, str]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        received.append({"url": f"http://127.0.0.1:{server.server_port}/"})
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield received
        server.shutdown()
        thread.join()


def set_shell_full_of_secrets(patch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set variables that no program should get, and return those that the worker should."""
    for name in ("GITHUB_TOKEN", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLEM_X", "PREFECT_API_KEY"):
        patch.setenv(name, SECRET)
    patch.setenv("SLIPWAY_S3_READ_SECRET", SECRET)
    names = ("UV_INDEX_OURS_PASSWORD", "PIP_OF_MINE", "SLIPWAY_OF_MINE")
    for_worker = dict.fromkeys(names, FOR_WORKER)
    for name, value in for_worker.items():
        patch.setenv(name, value)
    patch.setenv("UV_PROJECT_ENVIRONMENT", "/elsewhere")
    patch.setenv("LC_TIME", "C")
    return for_worker


@pytest.fixture(scope="module")
def own_stack(make_home: Callable[[str], Path], source: Path) -> Iterator[Stack]:
    """A stack of these tests alone: they kill its programs, and change its automations.

    It is started twice at once, in a shell full of secrets, and must leave nothing behind.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        stack = Stack(
            make_home("own-stack"),
            CHECKOUT,
            source=source,
            usual_ports=False,
            deploy_on_push=False,
        )
        with stop_at_end(stack):
            with pytest.MonkeyPatch.context() as shell, ThreadPoolExecutor(2) as pool:
                set_shell_full_of_secrets(shell)
                list(pool.map(lambda _: stack.up(), range(2)))  # one works, the other reuses
            yield stack
            stack.down()
            stack.down()
            assert processes.of_stack(stack.credentials.stack) == []
            assert set(stack.status().values()) == {"STOPPED"}


@pytest.fixture(scope="module")
def lab(own_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with own_stack.open_api() as api, flow_fork_server(own_stack) as forks:
        yield Lab(own_stack, api, tmp_path_factory.mktemp("lab"), forks)


def processes_of(lab: Lab, run_id: str) -> list[psutil.Process]:
    """Return the engine of a flow run, and all that it has started."""
    results = []
    for process in processes.of_stack(lab.stack.credentials.stack):
        with contextlib.suppress(psutil.Error):
            if process.environ().get("PREFECT__FLOW_RUN_ID") == run_id:
                results.append(process)
    return results


def logs_contain(lab: Lab, run_id: str, words: str) -> bool:
    family = [run.id for run in lab.api.read_run_tree(run_id)]
    return any(words in line.message for line in lab.api.read_logs(family, count=200))


def state_names(lab: Lab, run_id: str) -> list[str]:
    """Return the names of the states that a run was in, in order."""
    with prefect_http(lab.stack) as http:
        states = http.get("/flow_run_states/", params={"flow_run_id": run_id}).raise_for_status()
    return [entry["name"] for entry in sorted(states.json(), key=lambda item: item["timestamp"])]


@pytest.fixture(scope="module")
def trained(lab: Lab) -> FlowRun:
    """A retrain that completed although the server was killed in the middle of it."""
    run = lab.api.create_run("retrain/retrain", {"overrides": {"train.cv": 2}})
    wait_until(lambda: logs_contain(lab, run.id, "Running stage 'train'"), "training starts")
    os.kill(adoption.running_programs(lab.stack.logs)[prefect_programs.SERVER], signal.SIGKILL)
    wait_until(lambda: not lab.api.is_healthy(), "the server is gone")
    run = wait_for_end(lab.api, run.id, every=1)
    log = lab.stack.logs / f"{prefect_programs.WORKER}.log"
    wait_until(
        lambda: log.read_text().count("gets the events") == 2, "the worker gets events again"
    )
    return run


@pytest.fixture(scope="module")
def short_timeouts(lab: Lab, trained: FlowRun, letters: list[dict[str, str]]) -> Iterator[None]:
    """Make the automations wait less than they usually do, and notify a receiver."""
    assert "failures notify nobody" in (lab.stack.logs / "apply.log").read_text()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_LOST_SECONDS", str(LOST_SECONDS))
        patch.setenv("SLIPWAY_LATE_HOURS", str(LATE_SECONDS / 3600))
        patch.setenv("SLIPWAY_NOTIFY_URL", letters[0]["url"])
        lab.stack.up()
        yield


@contextlib.contextmanager
def another_worker(lab: Lab) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in another time zone instead of the stack's, which nobody keeps alive."""
    stack = lab.stack
    stack.supervisor.stop(prefect_programs.WORKER)
    started = datetime.datetime.now(datetime.UTC)
    variables = {
        **os.environ,
        **stack.environment(),
        processes.MARKER: stack.credentials.stack,
        "PREFECT_WORKER_QUERY_SECONDS": "1",  # it is Prefect's own, which polls at an interval
        "TZ": "Asia/Kolkata",
    }
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "prefect", "worker", "start", "--name=another"]
    with (stack.logs / "another-worker.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, f"--pool={prefect_programs.WORK_POOL}", "--type=process"],
            cwd=CHECKOUT, env=variables, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip

    def seen() -> bool:
        when = lab.api.last_heartbeat(prefect_programs.WORK_POOL)
        return when is not None and when > started

    try:
        wait_until(seen, "the worker starts", every=1)
        yield process
    finally:
        process.kill()
        process.wait()


def read_automation_for_late_runs(lab: Lab) -> dict[str, Any]:
    """Return the automation that cancels late runs, as the server has it."""
    with prefect_http(lab.stack) as http:
        rows = http.post("/automations/filter", json={}).raise_for_status().json()
    [automation] = [row for row in rows if row["name"].endswith("that are too late")]
    return dict(automation)


@pytest.fixture(scope="module")
def late(lab: Lab, short_timeouts: None) -> FlowRun:
    """A run that is cancelled because there is no worker; from then on no run is too late."""
    lab.stack.supervisor.stop(prefect_programs.WORKER)
    run = lab.api.create_run("train/train", {"ref": "no-such-ref"})
    run = wait_for_end(lab.api, run.id, every=1)
    path = f"/automations/{read_automation_for_late_runs(lab)['id']}"
    with prefect_http(lab.stack) as http:
        http.patch(path, json={"enabled": False}).raise_for_status()
    return run


@dataclass(frozen=True)
class Night:
    """The runs of a night in which a worker died, and the seconds until its run was Crashed."""

    killed: FlowRun
    seconds: float
    scheduled: list[dict[str, Any]]


@pytest.fixture(scope="module")
def night(lab: Lab, late: FlowRun) -> Night:
    """A worker dies with the deploy it was at; another run is scheduled."""
    assert late.finished
    zone = datetime.timezone(datetime.timedelta(hours=9))
    with prefect_http(lab.stack) as client:
        with another_worker(lab) as worker:
            run = lab.api.create_run("deploy/local", {"ref": "main"})
            wait_until(lab.servers, "the new server is there")
            worker.kill()
            for process in processes_of(lab, run.id):
                with contextlib.suppress(psutil.NoSuchProcess):  # a child has just ended
                    if "prefect.engine" in process.cmdline():
                        process.kill()
        killed_at = time.monotonic()
        wait_until(lambda: "Crashed" in state_names(lab, run.id), "the run is crashed", every=1)
        seconds = time.monotonic() - killed_at

        deployment = client.get("/deployments/name/save/save").raise_for_status().json()["id"]
        due = datetime.datetime.now(zone) + datetime.timedelta(seconds=120)
        schedule = {"cron": f"{due.minute} {due.hour} * * *", "timezone": "Asia/Tokyo"}
        made = client.post(
            f"/deployments/{deployment}/schedules",
            json=[{"active": True, "schedule": schedule, "parameters": {"ref": "no-such-ref"}}],
        )
        made.raise_for_status()
        query = {
            "deployments": {"id": {"any_": [deployment]}},
            "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}},
        }

        def fired() -> list[dict[str, Any]]:
            result = client.post("/flow_runs/filter", json=query).raise_for_status().json()
            return list(result)

        with another_worker(lab):
            killed = wait_for_end(lab.api, run.id, every=1)
            wait_until(
                lambda: [item for item in fired() if item["end_time"]], "the hour comes", every=2
            )
            a_little_later = due.replace(second=20)  # another one would have come by then
            wait_until(lambda: datetime.datetime.now(zone) > a_little_later, "the hour is over")
        scheduled = fired()
        client.delete(f"/deployments/{deployment}/schedules/{made.json()[0]['id']}")
    # From here on no slow machine's run counts as late or lost.
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SLIPWAY_LATE_HOURS")
        patch.delenv("SLIPWAY_LOST_SECONDS")
        lab.stack.up()
    assert read_automation_for_late_runs(lab)["enabled"], "up leaves it as somebody has set it"
    return Night(killed, seconds, scheduled)


def test_stack_is_small_keeps_secrets_apart_and_is_adopted_after_a_kill(
    own_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for_worker = set_shell_full_of_secrets(monkeypatch)
    assert set(own_stack.status().values()) == {"RUNNING"}
    assert own_stack.memory() < 800_000_000  # below 1 GB with a live model, which takes 180 MB
    ports = own_stack.ports

    pids = json.loads((own_stack.home / "stack.json").read_text())["pids"]
    environments = {name: psutil.Process(pid).environ() for name, pid in pids.items()}
    pidfile = own_stack.home / "supervisor" / "supervisord.pid"
    environments["supervisord"] = psutil.Process(int(pidfile.read_text())).environ()
    assert environments.keys() >= PROGRAMS
    worker = environments.pop("prefect-worker")
    assert SECRET not in worker.values()
    assert worker.items() >= for_worker.items()
    assert "UV_PROJECT_ENVIRONMENT" not in worker
    for name, environment in environments.items():
        assert not {SECRET, FOR_WORKER} & set(environment.values()), name
        assert environment["LC_TIME"] == "C"
        assert environment["HOME"] == os.environ["HOME"]

    os.kill(int(pidfile.read_text()), signal.SIGKILL)
    wait_until(lambda: set(own_stack.status().values()) == {UNSUPERVISED}, "supervisord is gone")
    lines: list[str] = []
    own_stack.up(lines.append)
    assert any("adopts" in line for line in lines)
    assert not any("left behind" in line for line in lines)
    assert own_stack.ports == ports
    assert json.loads((own_stack.home / "stack.json").read_text())["pids"] == pids
    # supervisord calls it running after a second.
    assert set(own_stack.status().values()) <= {"RUNNING", "STARTING"}


def test_database_asks_for_a_password_that_no_file_or_command_shows(
    own_stack: Stack,
) -> None:
    password, home = own_stack.credentials.database, own_stack.home
    url = postgres.connection_url(own_stack.ports, password).replace("+asyncpg", "")

    async def user(url: str) -> Any:
        connection = await asyncpg.connect(url, ssl=False)
        try:
            return await connection.fetchval("select current_user")
        finally:
            await connection.close()

    assert asyncio.run(user(url)) == "slipway"
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(user(url.replace(password, "guess")))
    private = {home / "secrets" / "credentials.json", home / "supervisor" / "supervisord.conf"}
    for path in home.rglob("*"):
        if path not in private and path.is_file() and path.stat().st_size < 20_000_000:
            assert password.encode() not in path.read_bytes(), path
    for process in processes.of_stack(own_stack.credentials.stack):
        with contextlib.suppress(psutil.Error):
            assert password not in " ".join(process.cmdline())
            assert process.name() != "postgres" or process.uids().real != 0


def test_run_survives_a_server_restart_and_its_end_is_recorded(lab: Lab, trained: FlowRun) -> None:
    assert trained.succeeded, trained.message
    states = {run.flow: run.label for run in lab.api.read_run_tree(trained.id)}
    assert states == dict.fromkeys(("retrain", "train", "save", "push"), "Completed")
    assert state_names(lab, trained.id).count("Running") == 1


def test_run_without_worker_and_process_is_crashed_and_run_again_once(
    lab: Lab, night: Night
) -> None:
    assert night.seconds < 120
    assert night.killed.succeeded, night.killed.message
    assert state_names(lab, night.killed.id).count("Crashed") == 1
    assert lab.is_live(lab.head())
    assert len(lab.servers()) == 1
    tags = [ref for ref in lab.refs() if ref.startswith("refs/tags/wine")]
    assert len([tag for tag in tags if "@" in tag]) == 1
    assert len([tag for tag in tags if "#local" in tag]) == 1


@pytest.fixture
def paused_pool(lab: Lab) -> Iterator[None]:
    pool = f"/work_pools/{prefect_programs.WORK_POOL}"
    with prefect_http(lab.stack) as http:
        http.patch(pool, json={"is_paused": True}).raise_for_status()
        yield
        http.patch(pool, json={"is_paused": False}).raise_for_status()


@pytest.mark.usefixtures("paused_pool", "night")
def test_run_that_crashes_twice_stays_crashed(lab: Lab) -> None:
    def crash(run: FlowRun) -> None:
        for state in ("Running", "Crashed"):
            lab.api.force_state(run.id, State(state.upper(), state, "by a test"))

    def awaits_retry(run: FlowRun) -> bool:
        return lab.api.read_run(run.id).label == "AwaitingRetry"

    first, second = (lab.api.create_run("train/train", {"ref": "main"}) for _ in range(2))
    crash(first)
    wait_until(lambda: awaits_retry(first), "it is to run again", every=1)
    crash(first)
    crash(second)  # events are worked off in turn: once this one is, those of the first are
    wait_until(lambda: awaits_retry(second), "the other one is to run again", every=1)
    assert lab.api.read_run(first.id).label == "Crashed"
    for run in (first, second):
        lab.api.force_state(run.id, State("CANCELLED", "Cancelled", "by a test"))


def test_late_run_is_cancelled_with_a_notification(
    late: FlowRun, letters: list[dict[str, str]]
) -> None:
    assert late.label == "Cancelled"
    assert "no worker has started the run" in late.message
    letter = wait_until(
        lambda: next((item for item in letters[1:] if late.id in item["text"]), None),
        "it is notified",
    )
    assert len([item for item in letters[1:] if late.id in item["text"]]) == 1
    assert letter["subject"] == "Slipway: a run of train/train was cancelled"


def test_schedule_fires_once_whatever_the_time_zones(night: Night) -> None:
    assert len(night.scheduled) == 1
    assert night.scheduled[0]["state"]["type"] == "FAILED"  # it ran; there is no such ref


def test_killed_database_comes_back_with_its_data(lab: Lab, night: Night) -> None:
    pid = adoption.running_programs(lab.stack.logs)[postgres.NAME]
    os.kill(pid, signal.SIGKILL)

    def remembers() -> bool:
        try:
            return lab.api.read_run(night.killed.id).succeeded
        except TransientError:  # the server says 500, or nothing, while its database is away
            return False

    wait_until(
        lambda: adoption.running_programs(lab.stack.logs).get(postgres.NAME, pid) != pid,
        "restarted",
    )
    wait_until(remembers, "the server reads from it again", every=1)


def test_kills_during_a_deploy_cost_no_request_and_leave_nothing(lab: Lab, night: Night) -> None:
    scene = Scene(lab.stack)
    with lab.traffic() as traffic:
        run = lab.api.create_run("deploy/local", {"force": True, "reason": "to be disturbed"})
        wait_until(lambda: len(lab.servers()) == 2, "the new server is beside the old one")
        for victim in ("supervisord", "S3", "worker"):
            pid = scene.pick(victim, random.Random(0))
            assert pid, victim
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not lab.stack.supervisor.alive(), "supervisord is gone")
        models = scene.models()  # first: one that was just started may record itself meanwhile
        states = lab.stack.status()
        assert set(states.values()) == {UNSUPERVISED, "STOPPED"}
        serving = [name for name, state in states.items() if state == UNSUPERVISED]
        assert {"gateway", *models} <= {*serving}
        lab.stack.up(print)
        final = wait_for_end(lab.api, run.id, every=1)
    assert final.succeeded, final.message
    assert "Crashed" not in state_names(lab, run.id)  # it went on without its worker
    assert traffic.failures == []
    assert lab.is_live(lab.head())
    assert [*scene.check_releases()] == []
    assert [*scene.check_bytes()] == []
    assert await_none(lambda: [*scene.check_rest(final.state)], 45) == []


@pytest.mark.parametrize("deployment", ["retrain/retrain", "deploy/local"])
def test_cancelled_run_leaves_no_child_and_no_lock(lab: Lab, night: Night, deployment: str) -> None:
    live = lab.live()
    parameters: dict[str, Any] = {"force": True}
    if deployment.startswith("retrain"):
        parameters["overrides"] = {"train.cv": 9}
    else:
        parameters["reason"] = "to be cancelled"
    run = lab.api.create_run(deployment, parameters)
    if deployment.startswith("retrain"):
        wait_until(lambda: logs_contain(lab, run.id, "Running stage 'train'"), "training starts")
    else:
        wait_until(lambda: len(lab.servers()) == 2, "the new server is beside the old one")
    children = processes_of(lab, run.id)
    assert children
    started = time.monotonic()
    state = {"type": "CANCELLING", "name": "Cancelling"}
    with prefect_http(lab.stack) as http:
        http.post(f"/flow_runs/{run.id}/set_state", json={"state": state}).raise_for_status()
    wait_until(lambda: not select_running(children), "its processes are gone")
    assert time.monotonic() - started < 10
    assert wait_for_end(lab.api, run.id, every=1).label == "Cancelled"
    assert not lab.api.find_runs(["RUNNING", "CANCELLING"])
    assert not processes_of(lab, run.id)
    assert not list((lab.stack.home / "locks").glob("*.json"))
    assert not list((lab.stack.home / "workspaces").iterdir())
    assert lab.live() == live
    assert len(lab.servers()) == 1


@pytest.mark.usefixtures("night")
def test_failed_deploy_sends_a_notification(lab: Lab, letters: list[dict[str, str]]) -> None:
    run = lab.api.create_run("deploy/local", {"ref": "no-such-ref"})
    assert wait_for_end(lab.api, run.id, every=1).state == "FAILED"
    letter = wait_until(
        lambda: next((item for item in letters[1:] if run.id in item["text"]), None),
        "it is notified",
    )
    assert letter["subject"] == "Slipway: deploy no-such-ref to local failed"
    assert "ref 'no-such-ref' does not exist on origin" in letter["text"]
    assert f"{lab.stack.prefect_ui_url}/runs/flow-run/{run.id}" in letter["text"]
