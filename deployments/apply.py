"""Making a Prefect server equal to this repository, the work of `slipway apply`.

Work pool, blocks, deployments with their schedules and concurrency limits, automations, variables:
what is missing is created, what differs is set back, what carries our tag and is no longer declared
is removed. A second time it changes nothing.

The server is that of `PREFECT_API_URL`, with `PREFECT_API_KEY` (Prefect Cloud) or
`PREFECT_API_AUTH_STRING` (a server with a password).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx

from deployments.catalogue.block_variables import NOTIFY, NOTIFY_VARIABLE
from deployments.catalogue.difference import Change, diff
from deployments.catalogue.prefect_yaml import SOURCE, Manifest
from tasks.core.errors import ConfigurationError, TerminalError, TransientError
from tasks.core.settings import CHECKOUT

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

    from deployments.catalogue.resources.blocks import Blocks
    from deployments.catalogue.resources.kind import Resources

WITHOUT_SCHEDULES = "--without-schedules"

# The server is read again after each change: another `apply` may run at the same time.
_ROUNDS = 5
_SECRET_BLOCK = re.compile(r"prefect\.blocks\.secret\.([a-z0-9-]+)")


async def apply(
    options: frozenset[str] = frozenset(),
    *,
    dry_run: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> list[Change]:
    """Make the server equal to the repository, one kind of resource after the other.

    Args:
        options: With `WITHOUT_SCHEDULES`, no schedule is active.
        dry_run: Only find the differences.
        log: Receives a line for whatever is left out, with the reason.

    Returns:
        The changes that were made, or would be.

    Raises:
        ConfigurationError: No server is named, or variables are missing; names them.
        TerminalError: The server refuses.
        TransientError: The server does not answer, or somebody else keeps changing it.
    """
    from prefect import get_client

    changes: list[Change] = []
    with _explaining_errors(server_url()), contextlib.chdir(CHECKOUT):
        async with get_client() as client:
            async for resources in _all_resources(client, options, log):
                changes += await reconcile(resources, dry_run=dry_run)
    return changes


async def reconcile(resources: Resources, *, dry_run: bool = False) -> list[Change]:
    """Make resources of one kind equal to their declaration, and read them again to be sure.

    Args:
        resources: The resources.
        dry_run: Only find the differences.

    Returns:
        The changes that were made, or would be.

    Raises:
        TransientError: They still differ after several rounds.
    """
    changes: dict[str, Change] = {}
    for _ in range(_ROUNDS):
        pending = diff(resources.kind, await resources.desired(), await resources.actual())
        changes = {change.name: change for change in pending} | changes
        if not pending or dry_run:
            return list(changes.values())
        for change in pending:
            with _ignoring_another_apply():
                if change.action == "remove":
                    await resources.remove(change.name)
                else:
                    await resources.put(change.name)
    raise TransientError(
        f"{resources.kind} {pending[0].name} does not stay as it was set: {pending[0].fields()}",
        state="it was set several times; what comes after it was not applied",
        next_step="find who else changes it (another commit's apply?), then: slipway apply",
    )


@contextlib.contextmanager
def _ignoring_another_apply() -> Iterator[None]:
    """Ignore that another `apply` has created or removed a resource: the next round shows it."""
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    try:
        yield
    except (ObjectAlreadyExists, ObjectNotFound):
        pass
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in {404, 409}:
            raise


def server_url() -> str:
    """Return the URL of the Prefect server.

    Raises:
        ConfigurationError: None is named; Prefect would start a temporary one.
    """
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if not url:
        raise ConfigurationError(
            "PREFECT_API_URL is not set, and the Prefect profile names no server",
            state="nothing was changed",
            next_step="slipway up, or for a server of your own: export"
            " PREFECT_API_URL=https://<your server>/api",
        )
    return url


async def _all_resources(
    client: PrefectClient, options: frozenset[str], log: Callable[[str], None]
) -> AsyncIterator[Resources]:
    """Yield the resources of each kind; those first that others refer to."""
    from prefect.deployments.steps.core import StepExecutionError, run_steps
    from prefect.utilities.templating import apply_values

    from deployments.catalogue.automations import declare_automations
    from deployments.catalogue.resources.automations import Automations
    from deployments.catalogue.resources.blocks import Blocks
    from deployments.catalogue.resources.deployments import Deployments
    from deployments.catalogue.resources.variables import Variables
    from deployments.catalogue.resources.work_pools import WorkPools
    from deployments.diagnosis.origin import check_pinned_commit

    manifest = Manifest.read(CHECKOUT)
    steps = manifest.pull(os.environ)
    for schedule in manifest.schedules_of_missing_environments:
        log(f"{schedule} does not exist, its runs would fail; edit {SOURCE}")
    try:
        outputs = await run_steps(manifest.build, {}, print_function=lambda *_, **__: None)
    except StepExecutionError as error:
        raise ConfigurationError(
            f"a build step of prefect.yaml failed: {error.__cause__ or error}",
            state="nothing was changed",
            next_step="run slipway apply in a Git clone: the step reads the version from its"
            " history",
        ) from error
    yield (blocks := Blocks(client, os.environ))
    yield WorkPools(client, manifest.work_pool, manifest.pool)
    if (pinned := await check_pinned_commit()) and not pinned.ok:
        log(f"{pinned.thing}: {pinned.text}. {pinned.fix}")
    pull = [await _without_missing_secrets(blocks, step) for step in steps]
    yield Deployments(
        client, manifest, CHECKOUT, pull, outputs, schedules=WITHOUT_SCHEDULES not in options
    )
    notify = await blocks.notify()
    if notify is None:
        log(
            f"failures notify nobody: block {NOTIFY} does not exist; set"
            f" {NOTIFY_VARIABLE}, or create the block in the UI, then: slipway apply"
        )
    yield Automations(client, declare_automations(notify))
    # Last: they record which commit the rest was made from.
    yield Variables(client, apply_values(dict(manifest.variables), outputs))


async def _without_missing_secrets(blocks: Blocks, step: dict[str, Any]) -> dict[str, Any]:
    """Return a pull step without the inputs that name a secret block which does not exist."""
    return {
        name: {
            key: value
            for key, value in inputs.items()
            if not (match := _SECRET_BLOCK.search(str(value)))
            or await blocks.has(f"secret/{match[1]}")
        }
        for name, inputs in step.items()
    }


@contextlib.contextmanager
def _explaining_errors(url: str) -> Iterator[None]:
    """Turn HTTP errors of the server into errors that name the next step."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in {401, 403}:
            raise TerminalError(
                f"the Prefect server at {url} refused the credentials: {status}",
                state="nothing was changed",
                next_step="set PREFECT_API_KEY (Prefect Cloud) or PREFECT_API_AUTH_STRING",
            ) from None
        kind = TransientError if status >= 500 else TerminalError
        raise kind(
            f"the Prefect server at {url} answered {status}: {_explain(error.response)}",
            state="some of the repository may be applied, the rest not",
            next_step="correct what the server names, then: slipway apply",
        ) from None
    except httpx.HTTPError as error:
        raise TransientError(
            f"the Prefect server at {url} does not answer: {error}",
            state="some of the repository may be applied, the rest not",
            next_step="check PREFECT_API_URL and the server, then: slipway apply",
        ) from error


def _explain(response: httpx.Response) -> str:
    """Return the reason a server gives, without the request that it repeats: secrets are in it."""
    try:
        issues = response.json()["exception_detail"]
        return "; ".join(f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}" for issue in issues)
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase
