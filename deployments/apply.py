"""Make a Prefect server equal to this repository: `python -m deployments.apply`.

Work pool, blocks, deployments with their schedules and concurrency limits, automations, variables:
what is missing is created, what differs is set back, what carries our tag and is no longer declared
is removed. A second time it changes nothing.

The server is that of `PREFECT_API_URL`, with `PREFECT_API_KEY` (Prefect Cloud) or
`PREFECT_API_AUTH_STRING` (a server with a password). Variables are also read from `.env` beside
`prefect.yaml`; those that are set win.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from dotenv import load_dotenv
from rich.console import Console
from rich.text import Text

from deployments.catalogue.block_variables import NOTIFY, NOTIFY_VARIABLE
from deployments.catalogue.difference import Change, diff
from deployments.catalogue.prefect_yaml import Manifest
from tasks.core.errors import ConfigurationError, SlipwayError, TerminalError, TransientError
from tasks.core.settings import CHECKOUT

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

    from deployments.catalogue.resources.blocks import Blocks
    from deployments.catalogue.resources.kind import Resources

WITHOUT_AUTOMATIONS = "--without-automations"
WITHOUT_SCHEDULES = "--without-schedules"

# Each change is followed by another look; what was changed meanwhile from elsewhere is seen then.
_LOOKS = 5
_DIFFERS = 2
_SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}
_SECRET_BLOCK = re.compile(r"prefect\.blocks\.secret\.([a-z0-9-]+)")


async def apply(
    options: frozenset[str] = frozenset(),
    *,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Change]:
    """Make the server equal to the repository, one kind of thing after the other.

    Args:
        options: `WITHOUT_AUTOMATIONS`: there are none; `WITHOUT_SCHEDULES`: none is active.
        dry_run: Only find out what differs.
        say: Told what is left out, and why.

    Returns:
        What was changed, or would be.

    Raises:
        ConfigurationError: No server is named, or variables are missing; says which.
        TerminalError: The server refuses.
        TransientError: The server does not answer, or is changed from elsewhere all the time.
    """
    from prefect import get_client

    changes: list[Change] = []
    with _told(server()), contextlib.chdir(CHECKOUT):
        async with get_client() as client:
            async for resources in _all(client, options, say):
                changes += await reconcile(resources, dry_run=dry_run)
    return changes


async def reconcile(resources: Resources, *, dry_run: bool = False) -> list[Change]:
    """Make things of one kind as they should be, and look whether they are.

    Args:
        resources: The things.
        dry_run: Only find out what differs.

    Returns:
        What was changed, or would be.

    Raises:
        TransientError: They are still not as they should be after several tries.
    """
    changes: dict[str, Change] = {}
    for _ in range(_LOOKS):
        found = diff(resources.kind, await resources.desired(), await resources.actual())
        changes = {change.name: change for change in found} | changes
        if not found or dry_run:
            return list(changes.values())
        for change in found:
            with _unless_done_by_another():
                if change.action == "remove":
                    await resources.remove(change.name)
                else:
                    await resources.put(change.name)
    raise TransientError(
        f"{resources.kind} {found[0].name} does not stay as it was set: {found[0].fields()}",
        state="it was set several times; what comes after it was not applied",
        next_step="see who else changes it (another commit's apply?), then apply again",
    )


@contextlib.contextmanager
def _unless_done_by_another() -> Iterator[None]:
    """Let pass that another `apply` has created or removed it meanwhile: the next look tells."""
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    try:
        yield
    except (ObjectAlreadyExists, ObjectNotFound):
        pass
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in {404, 409}:
            raise


def server() -> str:
    """The URL of the server that is asked.

    Raises:
        ConfigurationError: There is none: Prefect would start its own for a moment.
    """
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if not url:
        raise ConfigurationError(
            "PREFECT_API_URL is not set, and the Prefect profile names no server",
            state="nothing was changed",
            next_step="export PREFECT_API_URL=https://<your server>/api",
        )
    return url


async def _all(
    client: PrefectClient, options: frozenset[str], say: Callable[[str], None]
) -> AsyncIterator[Resources]:
    """All kinds of things; those come first that others name."""
    from prefect.deployments.steps.core import StepExecutionError, run_steps
    from prefect.utilities.templating import apply_values

    from deployments.catalogue.automations import declared
    from deployments.catalogue.resources.automations import Automations
    from deployments.catalogue.resources.blocks import Blocks
    from deployments.catalogue.resources.deployments import Deployments
    from deployments.catalogue.resources.variables import Variables
    from deployments.catalogue.resources.work_pools import WorkPools
    from deployments.diagnosis.origin import pinned

    manifest = Manifest.read(CHECKOUT)
    steps = manifest.pull(os.environ)
    try:
        outputs = await run_steps(manifest.build, {}, print_function=lambda *_, **__: None)
    except StepExecutionError as error:
        raise ConfigurationError(
            f"a build step of prefect.yaml fails: {error.__cause__ or error}",
            state="nothing was changed",
            next_step="mend it; the one that is there takes the version from the Git history",
        ) from error
    yield (blocks := Blocks(client, os.environ))
    yield WorkPools(client, manifest.work_pool, manifest.pool)
    if (clone := await pinned()) and not clone.ok:
        say(f"{clone.thing}: {clone.said}. {clone.fix}")
    pull = [await _without_absent(blocks, step) for step in steps]
    yield Deployments(
        client, manifest, CHECKOUT, pull, outputs, schedules=WITHOUT_SCHEDULES not in options
    )
    if WITHOUT_AUTOMATIONS in options:
        say(f"automations are left out, as {WITHOUT_AUTOMATIONS} says")
        yield Automations(client, [])
    else:
        notify = await blocks.notify()
        if notify is None:
            say(
                f"nobody is notified when a deploy fails: there is no block {NOTIFY}; set"
                f" {NOTIFY_VARIABLE}, or make one in the UI, and apply again"
            )
        yield Automations(client, declared(notify))
    # Last, for they say what the rest was made from.
    yield Variables(client, apply_values(dict(manifest.variables), outputs))


async def _without_absent(blocks: Blocks, step: dict[str, Any]) -> dict[str, Any]:
    """A pull step without the inputs that are secrets which are not there."""
    return {
        name: {
            key: value
            for key, value in inputs.items()
            if not (found := _SECRET_BLOCK.search(str(value)))
            or await blocks.has(f"secret/{found[1]}")
        }
        for name, inputs in step.items()
    }


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    """Say of what the server answers, or does not, what it means."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status in {401, 403}:
            raise TerminalError(
                f"the Prefect server at {url} refuses us: {status}",
                state="nothing was changed",
                next_step="set PREFECT_API_KEY (Prefect Cloud) or PREFECT_API_AUTH_STRING",
            ) from None
        kind = TransientError if status >= 500 else TerminalError
        raise kind(
            f"the Prefect server at {url} answers {status}: {_complaint(error.response)}",
            state="some of it may be applied, the rest not",
            next_step="mend what it complains about, and apply again",
        ) from None
    except httpx.HTTPError as error:
        raise TransientError(
            f"the Prefect server at {url} does not answer: {error}",
            state="some of it may be applied, the rest not",
            next_step="check PREFECT_API_URL and the server, and apply again",
        ) from error


def _complaint(response: httpx.Response) -> str:
    """What a server complains about, without what it was sent: there are secrets in that."""
    try:
        details = response.json()["exception_detail"]
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in details)
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how the server is to be, and where variables are read from."""
    parser.add_argument(
        WITHOUT_AUTOMATIONS, action="store_true", help="for a server on SQLite, which they lock"
    )
    parser.add_argument(
        WITHOUT_SCHEDULES, action="store_true", help="declared schedules are there but not active"
    )
    add_env_file(parser)


def add_env_file(parser: argparse.ArgumentParser) -> None:
    """Add what says where variables are read from."""
    parser.add_argument("--env-file", type=Path, default=CHECKOUT / ".env", help="instead of .env")


def chosen_options(arguments: argparse.Namespace) -> frozenset[str]:
    """Those of the options that say how the server is to be."""
    return frozenset(
        option
        for option in (WITHOUT_AUTOMATIONS, WITHOUT_SCHEDULES)
        if vars(arguments)[option.removeprefix("--").replace("-", "_")]
    )


def main() -> int:
    """Apply; the exit code says whether it is."""
    parser = argparse.ArgumentParser(
        prog="deployments.apply",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="show what differs, change nothing")
    parser.add_argument(
        "--exit-code", action="store_true", help=f"with --dry-run: exit {_DIFFERS} if anything does"
    )
    add_options(parser)
    arguments = parser.parse_args()
    load_dotenv(arguments.env_file)
    options = chosen_options(arguments)
    console = Console(soft_wrap=True)
    try:
        changes = asyncio.run(apply(options, dry_run=arguments.dry_run, say=print))
    except SlipwayError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    for change in changes:
        sign, colour = _SIGNS[change.action]
        console.print(Text(f"{sign} {change.kind} {change.name}", style=colour))
        for line in change.fields():
            console.print(Text(f"    {line}"))
    if not changes:
        console.print(f"{server()} is equal to the repository: nothing to do", markup=False)
    elif arguments.dry_run:
        console.print(f"{len(changes)} would be changed at {server()}", markup=False)
    else:
        console.print(
            f"{len(changes)} changed; {server()} is equal to the repository", markup=False
        )
    return _DIFFERS if changes and arguments.dry_run and arguments.exit_code else 0


if __name__ == "__main__":
    sys.exit(main())
