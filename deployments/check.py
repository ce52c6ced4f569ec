"""Checks of all that a deploy to one environment needs, by use and without a change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from deployments.diagnosis.finding import Finding, problem
from deployments.diagnosis.sandbox import check_sandbox
from deployments.doctor import check_server
from tasks.core.errors import ConfigurationError, SlipwayError
from tasks.platforms.base.policy import LAPTOP, describe
from tasks.platforms.base.settings import Environment, HostEnvironment
from tasks.platforms.catalogue import load_environment, make_target

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

_SECONDS = 120.0


async def examine(name: str, *, local: bool) -> AsyncIterator[Finding]:
    """Check all that a deploy to an environment needs.

    Args:
        name: Name of the environment.
        local: Whether the server is the local stack's.
    """
    # They import Prefect, which has to find its variables set.
    from deployments.diagnosis import checks, origin

    try:
        environment = load_environment(name)
    except ConfigurationError as error:
        yield problem("settings", error)
        return
    yield Finding("settings", f"valid: {name} has target {environment.target}")
    yield Finding("policy", describe(environment))
    yield check_sandbox(required=name != LAPTOP)

    watched = isinstance(environment, HostEnvironment) and environment.watch_seconds > 0

    async def on_server(client: PrefectClient) -> AsyncIterator[Finding]:
        more = [flow for flow, has in (("watch", watched), ("monitor", environment.log)) if has]
        for flow in ("deploy", *more):
            async for finding in checks.check_deployment(client, f"{flow}/{name}"):
                yield finding
        yield await checks.check_reader()
        if lock := await checks.check_lock(environment):
            yield lock

    async for finding in check_server(on_server, local=local):
        yield finding
    async for finding in origin.check_origin():
        yield finding
    async for finding in _check_platform(environment):
        yield finding


async def _check_platform(environment: Environment) -> AsyncIterator[Finding]:

    thing = f"target {environment.target}"
    try:
        async with asyncio.timeout(_SECONDS):
            facts = await make_target(environment).check()
    except SlipwayError as error:
        yield problem(thing, error)
    except TimeoutError:
        fix = "check the network between this host and the platform"
        yield Finding(thing, f"no answer within {_SECONDS:g} s", fix)
    else:
        for fact in facts:
            yield Finding(thing, fact)
