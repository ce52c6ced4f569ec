"""What tests of the deployments share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deployments.local.stack import Stack
from tests.code.deployments.servers import PrefectServer, in_shell_of


@pytest.fixture(scope="session")
def stack(second_stack: Stack) -> Stack:
    """Not the shared stack: these tests kill its worker, and change its settings."""
    return second_stack


@pytest.fixture
def shell(stack: Stack, stack_environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """This process is where flows of the stack run."""
    with in_shell_of(stack.prefect_api_url, stack.credentials.prefect):
        yield stack_environment


@pytest.fixture(scope="session")
def password_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A Prefect server with a password; the files of one group use it in turn."""
    with PrefectServer(tmp_path_factory.mktemp("password-server")) as running:
        yield running


@pytest.fixture(scope="module")
def empty_server(password_server: PrefectServer) -> Iterator[PrefectServer]:
    """A Prefect server with a password, on which there is nothing yet."""
    yield password_server
    password_server.clear()


@pytest.fixture(scope="module")
def staffed_server(empty_server: PrefectServer) -> PrefectServer:
    """That server, with an environment that has a worker, and one that has none."""
    empty_server.declare_staffed_and_deserted()
    return empty_server
