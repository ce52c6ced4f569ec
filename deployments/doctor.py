"""Say what is wrong with a set-up, and how to mend it: `python -m deployments.doctor`.

Better known as `make doctor`. It looks at the server of `PREFECT_API_URL`, which may be in `.env`,
and at the local stack if none is named.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import load_dotenv
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.apply import add_options, chosen_options, server
from deployments.catalogue.prefect_yaml import Manifest
from deployments.diagnosis.finding import Finding, problem
from deployments.local.stack import Stack
from tasks.core.errors import ConfigurationError
from tasks.core.settings import CHECKOUT

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


async def examine(options: frozenset[str], *, local: bool, notify: bool) -> AsyncIterator[Finding]:
    """Look at one thing after the other.

    Args:
        options: What the server was made equal to the repository with, see `apply`.
        local: Whether it is the local stack.
        notify: Whether to send a message through the notification block.

    Yields:
        What was found.
    """
    # Whatever imports Prefect may be imported now that its variables are set.
    from deployments.diagnosis import checks, origin

    async def on_server(client: PrefectClient) -> AsyncIterator[Finding]:
        yield await checks.worker(client, Manifest.read(CHECKOUT).work_pool)
        yield await checks.catalogue(options)
        async for finding in checks.buckets():
            yield finding
        async for finding in checks.secrets():
            yield finding
        yield await checks.notification(client, send=notify)

    async for finding in ask_server(on_server, local=local):
        yield finding
    async for finding in origin.origin():
        yield finding
    if found := await origin.pinned():
        yield found


async def ask_server(
    look: Callable[[PrefectClient], AsyncIterator[Finding]], *, local: bool
) -> AsyncIterator[Finding]:
    """Look at the Prefect server, and if it answers at more.

    Args:
        look: What else to look at.
        local: Whether it is the local stack's.

    Yields:
        What was found.
    """
    import httpx
    from prefect import get_client

    url = os.environ.get("PREFECT_API_URL", "")
    try:
        url = server()
        async with get_client() as client:
            await client.read_work_pools(limit=1)
            yield Finding("Prefect server", f"{url} answers")
            async for finding in look(client):
                yield finding
    except ConfigurationError as error:
        yield problem("Prefect server", error)
    except httpx.HTTPError as error:
        said = f"{url}: {str(error).partition(chr(10))[0]}"
        check = "check PREFECT_API_URL, and PREFECT_API_KEY or PREFECT_API_AUTH_STRING"
        yield Finding("Prefect server", said, "make up" if local else check)


def use_local_stack(stack: Stack) -> bool:
    """Take on the environment of the local stack, unless another server is named.

    Args:
        stack: The local stack.

    Returns:
        Whether it did.
    """
    if os.environ.get("PREFECT_API_URL") or not stack.ports:
        return False
    os.environ.update({**stack.environment(), **stack.storage.to_environment()})
    return True


def table(findings: list[Finding]) -> Table:
    """The findings, as rich prints them."""
    shown = Table(show_lines=False)
    shown.add_column("", no_wrap=True)
    for title in ("what", "found", "how to mend it"):
        shown.add_column(title, overflow="fold")
    for each in findings:
        mark = Text("ok", "green") if each.ok else Text("problem", "red")
        shown.add_row(mark, Text(each.thing), Text(each.said), Text(each.fix))
    return shown


def tell(found: AsyncIterator[Finding]) -> int:
    """Print what is found as a table.

    Args:
        found: The findings.

    Returns:
        The exit code: 1 if anything is wrong.
    """
    findings = asyncio.run(_listed(found))
    Console(width=None if sys.stdout.isatty() else 140).print(table(findings))
    wrong = sum(not each.ok for each in findings)
    print(f"{wrong} problems" if wrong else "all is well")
    return 1 if wrong else 0


async def _listed(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [each async for each in findings]


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add what says where the local stack is."""
    parser.add_argument("--home", type=Path, default=CHECKOUT / ".slipway", help="the local stack")


def main() -> int:
    """Examine everything; the exit code says whether all is well."""
    parser = argparse.ArgumentParser(
        prog="deployments.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--notify", action="store_true", help="send a message, to see it arrive")
    add_home(parser)
    add_options(parser)
    arguments = parser.parse_args()
    load_dotenv(arguments.env_file)
    stack = Stack(arguments.home)
    local = use_local_stack(stack)
    options = frozenset(stack.apply_options) if local else chosen_options(arguments)
    return tell(examine(options, local=local, notify=arguments.notify))


if __name__ == "__main__":
    sys.exit(main())
