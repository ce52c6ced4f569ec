"""Subcommands for what happens after a release: `monitor`, and the address of its report."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.place import Place
from deployments.cli.runs import AsJson, EnvironmentArgument, Watch, start_run
from tasks.core.errors import ConfigurationError

if TYPE_CHECKING:
    from deployments.prefect_api.client import PrefectAPI

PANEL = "Models"
commands = typer.Typer()
_PAGE_SECONDS = 900  # whoever has the address can read the report, so it soon expires


@commands.command(rich_help_panel=PANEL)
def monitor(
    context: typer.Context,
    environment: EnvironmentArgument,
    window: Annotated[
        str,
        typer.Argument(
            help="A day, or start and end with a slash between, in UTC; by default yesterday."
        ),
    ] = "",
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Compare live requests with the data that the live version was trained on.

    \b
    slipway monitor local --watch
    slipway monitor production 2026-11-30 --watch
    slipway monitor production 2026-11-30T08:00/2026-11-30T12:00
    """
    parameters = {"window": window} if window else {}
    start_run(context.obj, f"monitor/{environment}", parameters, watch=watch, as_json=as_json)


def find_report_address(place: Place, api: PrefectAPI, environment: str, page: str) -> str:
    """Return an address of the newest report on an environment, which a browser can open.

    Args:
        place: The place.
        api: Its Prefect server.
        environment: Name of the environment.
        page: `page` for the report of `monitor`, `evidently` for that of Evidently beside it.

    Raises:
        ConfigurationError: There is no such report on it.
        TransientError: The Prefect server does not answer.
        TerminalError: The block of the bucket is missing.
    """
    from deployments.prefect_api.monitor_report import read_monitor_reports

    report = read_monitor_reports(api).get(environment)
    if report is None:
        raise ConfigurationError(
            f"{environment} has no report of `monitor` yet",
            state="nothing was opened",
            next_step=f"slipway monitor {environment} --watch; it needs `log` in the environment's"
            " file",
        )
    if not report.get(page):
        raise ConfigurationError(
            f"there is no report of Evidently on the newest window of {environment}",
            state="nothing was opened",
            next_step=f"set `monitor = {{evidently = true}}` in the file of {environment}, then"
            f" slipway monitor {environment} --watch",
        )
    place.choose_server()  # Prefect has to find its variables set
    from tasks.bucket.bucket import load_bucket
    from tasks.bucket.requests import make_address

    bucket = asyncio.run(load_bucket("read"))
    return make_address(bucket, str(report[page]), _PAGE_SECONDS)
