"""Score a table: predictions for all of its rows, in bulk."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from flows.parameters import BranchOrNone, EnvironmentName
from tasks.bucket.bucket import load_bucket
from tasks.bucket.outputs import fetch_output
from tasks.core.errors import ConfigurationError
from tasks.package.package import Package, read_package, verify_artifact
from tasks.package.runtime import make_runtime
from tasks.package.signature import verify_signature
from tasks.platforms.catalogue import load_environment
from tasks.reports.score_report import publish_report
from tasks.repository.release_history import read_history
from tasks.repository.versions import version_of
from tasks.repository.workspace import DEFAULT_BRANCH, Workspace, move_workspace, open_workspace
from tasks.runs.cancellation import stop_when_cancelled
from tasks.runs.run_names import run_name
from tasks.scoring.boxed import Task, Totals, score_rows
from tasks.scoring.clusters import find_cluster
from tasks.scoring.jobs import Job, Start, hold_job
from tasks.scoring.places import CSV, PARQUET, Place, is_in_bucket, read_place
from tasks.scoring.rejected_rows import require_few_rejected
from tasks.scoring.snapshot import Snapshot, bring_files, require_unchanged, take_snapshot
from tasks.scoring.targets import publish, require_absent

Address = Annotated[str, Field(min_length=1, max_length=500)]
Share = Annotated[float, Field(ge=0, le=1)]
Processes = Annotated[int, Field(ge=0, le=256)]
Cluster = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9-]{0,50})?$")]


@flow(name="score", flow_run_name=run_name("score {source}"), timeout_seconds=48 * 3600)
@stop_when_cancelled
async def score(
    source: Address,
    to: Address,
    ref: BranchOrNone = "",
    environment: EnvironmentName = "local",
    method: Literal["predict", "predict_proba"] = "predict",
    *,
    max_rejected: Share = 0.01,
    overwrite: bool = False,
    processes: Processes = 0,
    cluster: Cluster = "",
) -> State[dict[str, Any]]:
    """Predict all rows of a table, and publish the result in one move.

    Killed at any moment, a run with the same parameters continues it, with the version that it
    began with, and does not score a finished chunk again.

    Args:
        source: File, folder, `s3://` address or `sql://DATABASE/TABLE`: CSV or Parquet.
        to: Where the result goes, in the same ways.
        ref: Branch, tag, commit or version on origin; empty for what is live in the environment.
        environment: Environment whose live version scores, and whose rules for signatures hold.
        method: `predict_proba` for the probability of each class beside the prediction.
        max_rejected: The share of rows that the model may not take; beyond it nothing is published.
        overwrite: Replace a target that exists.
        processes: Number of processes; 0 for one per processor.
        cluster: Name of a Dask cluster whose workers score instead of this host.

    Returns:
        Version, numbers of rows, and why rows were rejected.
    """
    settings = load_environment(environment)
    uses_bucket = is_in_bucket(source) or is_in_bucket(to)
    bucket = await load_bucket("read-write") if uses_bucket else None
    name = bucket.name if bucket else ""
    origin, target = read_place(source, "source", name), read_place(to, "to", name)
    address = await find_cluster(cluster) if cluster else ""
    async with hold_job(origin.address, target.address, ref, environment, method) as job:
        snapshot = await take_snapshot(origin, bucket)
        ending = _choose_ending(target, is_parquet=snapshot.is_parquet)
        start = _read_start(job, snapshot)
        commit = start.commit if start else ref or DEFAULT_BRANCH
        async with open_workspace(commit, signed_tags=settings.signed) as newest:
            workspace = newest if start or ref else await _move_to_live(newest, environment)
            start = start or await _begin(job, workspace, snapshot.states)
            if not overwrite:
                await require_absent(target, bucket, job.folder)
            package = read_package(workspace)
            if settings.signed:
                package = await verify_signature(package, environment)
            files = await bring_files(snapshot, bucket, job.source)
            task = Task(
                files=files,
                readable=origin.path if origin.kind == "local" else job.source,
                method=method,
                ending=ending,
                single=bool(target.ending),
                processes=processes,
                is_table=origin.kind == "database",
                cluster=address,
            )
            totals = await _score(package, job, task)
        require_unchanged(snapshot)
        require_few_rejected(totals, max_rejected)
        facts = _describe(origin, target, start, method, totals)
        await publish(target, bucket, job, facts, overwrite=overwrite)
    await publish_report(package.model, facts)
    message = f"{totals.rows:,} rows scored by {package.label}, {totals.rejected:,} rejected"
    return Completed(message=f"{message}: {target}", data=facts)


async def _score(package: Package, job: Job, task: Task) -> Totals:
    model = await fetch_output(package.workspace, package.artifact)
    await verify_artifact(package, model)
    python = await make_runtime(package, task.further)
    return await score_rows(package, model, python, job, task)


async def _move_to_live(workspace: Workspace, environment: str) -> Workspace:
    history = await read_history(workspace, environment)
    if not history:
        raise ConfigurationError(
            f"nothing is live in {environment}, so no version can score",
            state="nothing was scored",
            next_step=f"deploy a version: `slipway deploy {environment}`, or name one by `ref`",
        )
    return await move_workspace(workspace, history[0].commit)


def _read_start(job: Job, snapshot: Snapshot) -> Start | None:
    start = job.read_start()
    is_same = start and dict(start.states) == dict(snapshot.states)
    return start if is_same else None  # its chunks are of other rows


async def _begin(job: Job, workspace: Workspace, states: Any) -> Start:
    version = await version_of(workspace, workspace.commit)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run = str(flow_run.get_id() or "by-hand")
    start = Start(workspace.commit, version.name if version else "", run, now, states)
    job.begin(start)
    return start


def _choose_ending(target: Place, *, is_parquet: bool) -> str:
    if target.ending not in ("", CSV, PARQUET):
        raise ConfigurationError(
            f"target {target} cannot be written: a file ends in {CSV} or {PARQUET}",
            state="nothing was scored",
            next_step="name a file of one of these, or a folder",
        )
    if target.kind == "database":
        return CSV
    return target.ending or (PARQUET if is_parquet else CSV)


def _describe(
    origin: Place, target: Place, start: Start, method: str, totals: Totals
) -> dict[str, Any]:
    return {
        "source": origin.address,
        "target": target.address,
        "method": method,
        "version": start.version,
        "commit": start.commit,
        "run": start.run,
        "time": start.time,
        "rows": totals.rows,
        "rejected": totals.rejected,
        "problems": {reason: list(rows) for reason, rows in totals.problems.items()},
    }
