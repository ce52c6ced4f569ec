"""The local worker's polls: upon events of a real Prefect server, and without them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Pending

from deployments.local.polling import Pauses, Poller
from tests.code.deployments.servers import PASSWORD, PrefectServer
from tests.stand_ins.line import line_to

PREFETCH = 10
# Nothing but an event makes it poll within the time of a test.
ONLY_EVENTS = Pauses(idle=600, due=600, after_event=0.05)


async def until(true: Callable[[], Any], what: str) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)
    assert true(), what


def run_at(
    seconds: float, name: str = "Scheduled", now: datetime.datetime | None = None
) -> FlowRun:
    start = (now or datetime.datetime.now(datetime.UTC)) + datetime.timedelta(seconds=seconds)
    return FlowRun(flow_id=uuid4(), state_name=name, next_scheduled_start_time=start)


def event_of(run_id: UUID, kind: str | None, name: str) -> Event:
    state = {"prefect.state-type": kind} if kind else {}
    resource = {"prefect.resource.id": f"prefect.flow-run.{run_id}", **state}
    return Event(event=f"prefect.flow-run.{name}", resource=resource)


class Worker:
    """A worker that starts what is due in a list of runs; it counts its polls."""

    is_setup = True

    def __init__(self) -> None:
        self.runs: list[FlowRun] = []
        self.polls = 0
        self.started: list[UUID] = []
        self.away = False
        self.client: Any = SimpleNamespace(get_scheduled_flow_runs_for_work_pool=self.find)

    async def find(self, pool: str, *, scheduled_before: datetime.datetime) -> list[Any]:
        starts = [(run, run.next_scheduled_start_time) for run in self.runs]
        return [SimpleNamespace(flow_run=run) for run, at in starts if at and at < scheduled_before]

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        self.polls += 1
        if self.away:
            raise httpx.ConnectError("no server")
        limit = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=PREFETCH)
        rows = await self.client.get_scheduled_flow_runs_for_work_pool(
            "with-a-worker", scheduled_before=limit
        )
        runs = [row.flow_run for row in rows]
        for run in runs:
            await self.start(run)
        return runs

    async def start(self, run: FlowRun) -> None:
        self.started.append(run.id)
        self.runs.remove(run)


class Stream:
    """Events as the server sends them, over connections that can be cut and refused."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self.connections = 0
        self.refuses = False

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncIterator[Event]]:
        if self.refuses:
            raise ConnectionRefusedError
        self.connections += 1
        yield self.receive()

    async def receive(self) -> AsyncIterator[Event]:
        while True:
            item = await self.events.get()
            if isinstance(item, Exception):
                raise item
            yield item


@contextlib.asynccontextmanager
async def polling(worker: Any, **options: Any) -> AsyncIterator[Poller]:
    poller = Poller(worker, "with-a-worker", PREFETCH, **options)
    task = asyncio.create_task(poller.run())
    try:
        yield poller
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def fake(pauses: Pauses = ONLY_EVENTS) -> AsyncIterator[tuple[Worker, Stream]]:
    """A poller that has got its first connection, and polled."""
    worker, stream = Worker(), Stream()
    async with polling(worker, subscribe=stream.connect, pauses=pauses):
        await until(lambda: stream.connections and worker.polls, "it polls")
        await asyncio.sleep(0.05)
        worker.polls = 0
        yield worker, stream


@pytest.mark.parametrize(
    ("kind", "name", "polls"),
    [
        ("SCHEDULED", "Scheduled", True),
        ("SCHEDULED", "AwaitingRetry", True),
        ("SCHEDULED", "Late", True),
        ("SCHEDULED", "a name of one's own", True),
        ("COMPLETED", "Completed", True),  # its slot is free
        ("CRASHED", "Crashed", True),
        ("PAUSED", "Suspended", True),
        ("SCHEDULED", "AwaitingConcurrencySlot", False),  # would be asked for without end
        ("RUNNING", "Running", False),
        ("PENDING", "Submitting", False),
        (None, "heartbeat", False),
    ],
)
async def test_events_that_may_make_a_run_due_or_free_a_slot_wake_it(
    kind: str | None, name: str, polls: bool
) -> None:
    async with fake() as (worker, stream):
        stream.events.put_nowait(event_of(uuid4(), kind, name))
        await asyncio.sleep(0.2)
        # The run of the event is not there: it may not be committed yet, and is looked for twice.
        assert worker.polls == (2 if polls and kind == "SCHEDULED" else int(polls))


async def test_resumed_pool_wakes_it() -> None:
    async with fake() as (worker, stream):
        resource = {"prefect.resource.id": "prefect.work-pool.one"}
        stream.events.put_nowait(Event(event="prefect.work-pool.ready", resource=resource))
        await until(lambda: worker.polls, "it polls")


async def test_run_is_found_that_was_not_yet_committed_when_its_event_came() -> None:
    async with fake(Pauses(idle=600, due=600, after_event=0.2)) as (worker, stream):
        run = run_at(0)
        stream.events.put_nowait(event_of(run.id, "SCHEDULED", "Scheduled"))
        await until(lambda: worker.polls, "it polls")
        assert not worker.started
        worker.runs.append(run)
        await until(lambda: worker.started == [run.id], "it starts")


async def test_without_events_it_polls_each_second() -> None:
    async with fake(Pauses(idle=600, due=0.05, after_event=0.05)) as (worker, stream):
        stream.refuses = True
        stream.events.put_nowait(ConnectionResetError("cut"))
        await until(lambda: worker.polls > 3, "it polls by itself")
        worker.away, worker.polls = True, 0  # the server is gone
        await until(lambda: worker.polls > 3, "it goes on")
        worker.away, stream.refuses = False, False
        await until(lambda: stream.connections == 2, "it gets events again")
        await asyncio.sleep(0.2)
        worker.polls = 0
        await asyncio.sleep(0.3)
        assert not worker.polls


async def test_run_of_a_schedule_starts_on_time() -> None:
    """The server tells nobody of a run that it makes for a schedule."""
    async with fake(Pauses(idle=0.3, due=0.05, after_event=0.05)) as (worker, _):
        run = run_at(PREFETCH + 0.5)
        worker.runs.append(run)
        await until(lambda: worker.started, "it starts")
        assert run.next_scheduled_start_time is not None
        left = run.next_scheduled_start_time - datetime.datetime.now(datetime.UTC)
        assert left.total_seconds() <= PREFETCH
        assert left.total_seconds() > PREFETCH - 2


@pytest.mark.parametrize(
    ("starts", "name", "upon_event", "seconds"),
    [
        ([], "Scheduled", False, 15),
        ([], "Scheduled", True, 15),
        ([PREFETCH + 7], "Scheduled", False, 7),
        ([PREFETCH + 7, PREFETCH + 4], "Scheduled", True, 4),
        ([3600], "Scheduled", False, 15),
        ([-60], "Late", False, 1),  # due, and not started: as often as without events
        ([-60], "Late", True, 0.3),
        ([3], "AwaitingConcurrencySlot", False, 3),
        ([-1], "AwaitingConcurrencySlot", False, 3),
        ([3], "AwaitingConcurrencySlot", True, 0.3),  # a slot is free, but not yet committed
    ],
)
def test_next_poll_is_when_a_run_is_due(
    starts: list[float], name: str, upon_event: bool, seconds: float
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    runs = [run_at(start, name, now) for start in starts]
    assert Poller(Worker(), "pool", PREFETCH).pause(runs, now, upon_event=upon_event) == seconds


@pytest.fixture
def server(staffed_server: PrefectServer) -> PrefectServer:
    return staffed_server


class RealWorker(Worker):
    """The same with a real client: it starts nothing, but says to the server that it does."""

    def __init__(self, client: PrefectClient) -> None:
        super().__init__()
        self.client = client

    async def start(self, run: FlowRun) -> None:
        self.started.append(run.id)
        await self.client.set_flow_run_state(run.id, Pending(), force=True)


async def test_real_events_wake_it_and_so_they_do_after_a_cut(
    server: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = server.http.get("/deployments/name/deploy/staffed").raise_for_status().json()["id"]
    connections = 0

    def create_run() -> UUID:
        return UUID(server.post(f"/deployments/{deployment}/create_flow_run", {})["id"])

    def connected() -> bool:
        nonlocal connections
        connections += capsys.readouterr().out.count("gets the events")
        return connections > 0

    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_API_AUTH_STRING: PASSWORD}):
        client = get_client()
    pauses = Pauses(idle=600, due=0.2, after_event=0.3)
    with line_to(server.port) as line:
        url = server.url.replace(str(server.port), str(line.port))
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: PASSWORD}):
            async with client, polling(worker := RealWorker(client), pauses=pauses):
                for _ in range(2):
                    await until(connected, "it gets events")
                    connections = 0
                    await asyncio.sleep(0.7)  # it polls once more, for what came meanwhile
                    polls = worker.polls
                    for _ in range(3):
                        run = await asyncio.to_thread(create_run)
                        await until(lambda run=run: run in worker.started, "it is found")
                    assert worker.polls - polls <= 9
                    line.cut(0.3)
                assert len(worker.started) == len(set(worker.started)) == 6
