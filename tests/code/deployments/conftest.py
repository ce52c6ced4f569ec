"""What tests of the deployments share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deployments.local.stack import Stack
from tests.code.deployments.servers import in_shell_of


@pytest.fixture(scope="session")
def stack(second_stack: Stack) -> Stack:
    """Not the shared stack: these tests kill its worker, and change its settings."""
    return second_stack


@pytest.fixture
def shell(stack: Stack, stack_environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """This process is where flows of the stack run."""
    with in_shell_of(stack.prefect_api_url, stack.credentials.prefect):
        yield stack_environment
