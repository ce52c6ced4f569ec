"""Subcommand for predictions in bulk: `score`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deployments.cli.place import list_environments
from deployments.cli.runs import PANEL, AsJson, Watch, start_run

commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def score(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(help="CSV or Parquet: file, folder, s3://...; or sql://DATABASE/TABLE.")
    ],
    to: Annotated[str, typer.Argument(help="Where the result goes, in the same ways.")],
    environment: Annotated[
        str,
        typer.Option(
            help="Environment whose live version scores.", autocompletion=list_environments
        ),
    ] = "local",
    ref: Annotated[
        str, typer.Option(help="Branch, tag, commit or version on origin, instead of what is live.")
    ] = "",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of each class, too.")
    ] = False,
    max_rejected: Annotated[
        float, typer.Option(help="Share of rows that the model may refuse.", min=0, max=1)
    ] = 0.01,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a target that exists.")
    ] = False,
    processes: Annotated[
        int, typer.Option(help="Number of processes; 0 for one per processor.", min=0)
    ] = 0,
    cluster: Annotated[
        str, typer.Option(help="Name of a Dask cluster that scores instead of the worker's host.")
    ] = "",
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Predict all rows of a table, and publish the result in one move.

    \b
    slipway score data/scores/customers.csv data/scores/customers-scored.csv --watch
    slipway score s3://models/scores/new s3://models/scores/scored --environment production
    """
    parameters: dict[str, Any] = {
        "source": source,
        "to": to,
        "environment": environment,
        "max_rejected": max_rejected,
        **({"ref": ref} if ref else {}),
        **({"method": "predict_proba"} if probabilities else {}),
        **({"overwrite": True} if overwrite else {}),
        **({"processes": processes} if processes else {}),
        **({"cluster": cluster} if cluster else {}),
    }
    start_run(context.obj, "score/score", parameters, watch=watch, as_json=as_json)
