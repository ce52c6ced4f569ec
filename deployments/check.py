"""Say what would be wrong with a deploy, before any: `python -m deployments.check <environment>`.

Better known as `make check ENVIRONMENT=...`. It tries what a deploy needs, changes nothing, and is
to be typed where deploys run: on a worker's host, with the worker's variables. The server it looks
at is that of `PREFECT_API_URL`, or the local stack's if none is named.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from dotenv import load_dotenv

from deployments.apply import add_env_file
from deployments.diagnosis.finding import Finding, problem
from deployments.doctor import add_home, ask_server, tell, use_local_stack
from deployments.local.stack import Stack
from tasks.core.errors import ConfigurationError, SlipwayError
from tasks.platforms.base.settings import Environment
from tasks.platforms.catalogue import load_environment, make_target

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_SECONDS = 120.0


async def examine(name: str, *, local: bool) -> AsyncIterator[Finding]:
    """Look at all that a deploy to an environment needs.

    Args:
        name: Name of the environment.
        local: Whether the server is the local stack's.

    Yields:
        What was found.
    """
    # It imports Prefect, which may be imported now that its variables are set.
    from deployments.diagnosis import checks, origin

    try:
        environment = load_environment(name)
    except ConfigurationError as error:
        yield problem("settings", error)
        return
    yield Finding("settings", f"valid: {name} is of target {environment.target}")

    async def on_server(client: PrefectClient) -> AsyncIterator[Finding]:
        async for finding in checks.deployment(client, f"deploy/{name}"):
            yield finding
        yield await checks.reader()
        if said := await checks.lock(environment):
            yield said

    async for finding in ask_server(on_server, local=local):
        yield finding
    async for finding in origin.origin():
        yield finding
    async for finding in _platform(environment):
        yield finding


async def _platform(environment: Environment) -> AsyncIterator[Finding]:
    thing = f"target {environment.target}"
    try:
        async with asyncio.timeout(_SECONDS):
            found = await make_target(environment).check()
    except SlipwayError as error:
        yield problem(thing, error)
    except TimeoutError:
        yield Finding(thing, f"no answer within {_SECONDS:g} s", "see what is between here and it")
    else:
        for said in found:
            yield Finding(thing, said)


def main() -> int:
    """Examine one environment; the exit code says whether all is well."""
    parser = argparse.ArgumentParser(
        prog="deployments.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("environment", help="a file in deployments/environments, without .toml")
    add_home(parser)
    add_env_file(parser)
    arguments = parser.parse_args()
    load_dotenv(arguments.env_file)
    local = use_local_stack(Stack(arguments.home))
    return tell(examine(arguments.environment, local=local))


if __name__ == "__main__":
    sys.exit(main())
