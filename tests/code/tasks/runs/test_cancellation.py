"""A flow run that nobody stops once it is cancelled stops itself."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Cancelling, Running
from prefect.utilities.engine import capture_sigterm

from deployments.local.stack import Stack
from tasks.core.settings import CHECKOUT
from tasks.runs import cancellation
from tests.stack_access import prefect_of


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(cancellation, "_GRACE_SECONDS", 0.1)


class Server:
    """A client whose server is away at first, then gives one state after the other."""

    def __init__(self, states: Iterator[Any]) -> None:
        self._states = states
        self.looks = 0

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read_flow_run(self, _: UUID) -> Any:
        self.looks += 1
        state = next(self._states)
        if isinstance(state, Exception):
            raise state
        return SimpleNamespace(state=state)


async def _seconds_until_stopped(server: Server, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(cancellation, "get_client", lambda: server)
    started = asyncio.get_running_loop().time()
    limit = asyncio.timeout(None)
    with contextlib.suppress(TimeoutError):
        async with limit, asyncio.TaskGroup() as group:
            group.create_task(cancellation._end_if_cancelled(uuid4(), limit))
            await asyncio.Event().wait()
    assert limit.expired()
    return asyncio.get_running_loop().time() - started


async def test_watch_outlives_an_outage_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    def states() -> Iterator[Any]:
        for _ in range(5):
            yield httpx.ConnectError("refused")
            yield ObjectNotFound(Exception())
        yield Running()
        while True:
            yield Cancelling()

    server = Server(states())
    await _seconds_until_stopped(server, monkeypatch)
    assert server.looks > 11


async def test_run_has_time_to_be_stopped_by_prefect(monkeypatch: pytest.MonkeyPatch) -> None:
    def states() -> Iterator[Any]:
        yield Cancelling()
        yield Running()  # resumed: what it was asked before counts no longer
        while True:
            yield Cancelling()

    assert await _seconds_until_stopped(Server(states()), monkeypatch) > 0.1


# Prefect's client of events leaves its connection open when the loop of a flow ends.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_cancelled_flow_cleans_up_and_ends_as_cancelled(stack: Stack) -> None:
    stopped_runs = []

    @flow(name="wait to be cancelled")
    @cancellation.stop_when_cancelled
    async def wait() -> None:
        try:
            async with get_client() as client:
                await client.set_flow_run_state(flow_run.get_id(), Cancelling(), force=True)
            await asyncio.Event().wait()
        finally:
            stopped_runs.append(flow_run.get_id())

    with prefect_of(stack):
        state = await wait(return_state=True)
        assert state.is_cancelled()
        async with get_client() as client:
            run = await client.read_flow_run(UUID(stopped_runs[0]))
    assert run.state_name == "Cancelled"
    assert "stopped itself" in run.state.message


async def test_flow_that_is_not_cancelled_returns_and_raises_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cancellation.flow_run, "get_id", lambda: str(uuid4()))
    monkeypatch.setattr(cancellation, "get_client", lambda: Server(iter([])))

    @cancellation.stop_when_cancelled
    async def answer(error: Exception | None) -> int:
        if error:
            raise error
        return 42

    assert await answer(None) == 42
    with pytest.raises(TimeoutError, match="its own"):
        await answer(TimeoutError("its own"))


def test_every_flow_stops_itself() -> None:
    decorators = {
        function.name: [
            ast.unparse(decorator).partition("(")[0] for decorator in function.decorator_list
        ]
        for path in (CHECKOUT / "flows").glob("*.py")
        for function in ast.parse(path.read_text()).body
        if isinstance(function, ast.AsyncFunctionDef)
    }
    flows = {name: names for name, names in decorators.items() if "flow" in names}
    assert "deploy" in flows
    assert {tuple(names) for names in flows.values()} == {("flow", "stop_when_cancelled")}


def test_signal_during_a_callback_ends_the_flow_and_lets_it_clean_up() -> None:
    done = []

    async def wait() -> None:
        with cancellation._lose_no_signal():
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
            try:
                await asyncio.sleep(30)
                done.append("waited")
            finally:
                await asyncio.sleep(0.05)
                done.append("cleaned up")

    with capture_sigterm(), pytest.raises(TerminationSignal):
        asyncio.run(wait())
    assert done == ["cleaned up"]


async def test_other_errors_of_callbacks_are_logged_as_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with cancellation._lose_no_signal():
        asyncio.get_running_loop().call_soon(divmod, 1, 0)
        await asyncio.sleep(0)
    assert "ZeroDivisionError" in caplog.text
