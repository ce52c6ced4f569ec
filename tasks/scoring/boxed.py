"""The model scores in the sandbox: no network, no credentials, its source read-only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from tasks.core import commands, programs
from tasks.core.errors import ConfigurationError, TerminalError, TransientError
from tasks.package.bundle import make_bundle
from tasks.package.package import Package
from tasks.package.runtime import read_requirements
from tasks.runs.artifacts import Progress, artifact_key
from tasks.runs.retrying import capability
from tasks.sandbox.box import start_in
from tasks.sandbox.launcher import LIMIT_EXCEEDED
from tasks.scoring.boxes import MODULE, make_box
from tasks.scoring.cluster_names import CLUSTER, VERSIONS
from tasks.scoring.clusters import explain_cluster
from tasks.scoring.jobs import Job, Start
from tasks.scoring.places import PARQUET

_SECONDS = 24 * 3600.0
_STEP = 1.0  # percent between two updates of the progress


@dataclass(frozen=True)
class Totals:
    """Numbers of rows of a job.

    Attributes:
        rows: All of them.
        rejected: Those that the model does not take.
        problems: Why: the number of rows and the first of them, by reason.
    """

    rows: int
    rejected: int
    problems: Mapping[str, tuple[int, list[str]]]


@dataclass(frozen=True)
class Task:
    """The work of a box.

    Attributes:
        files: The files of the source, by name.
        readable: The file or folder that has them.
        method: The model's method.
        ending: `.csv` or `.parquet`, of the result.
        single: Whether the result is one file.
        processes: Number of processes; 0 for one per processor.
        is_table: Whether the files are tables of a database, in its own format.
        cluster: Address of the scheduler of the Dask cluster that scores; empty for this host.
    """

    files: Mapping[str, Path]
    readable: Path
    method: str
    ending: str
    single: bool
    processes: int = 0
    is_table: bool = False
    cluster: str = ""

    @property
    def further(self) -> str:
        """The package that is needed beside those of the model, for Parquet; empty for none."""
        endings = {self.ending, *(file.suffix for file in self.files.values())}
        return "pyarrow" if PARQUET in endings else ""


@capability("score", run_name="score by {package.label}", timeout=_SECONDS + 600)
async def score_rows(package: Package, model: Path, python: Path, job: Job, task: Task) -> Totals:
    """Score all rows of a source that are not scored yet.

    Args:
        package: The package.
        model: Its verified model file.
        python: Path of its runtime's Python.
        job: The job; parts of the result are below `work/result`.
        task: The work.

    Raises:
        ConfigurationError: The source is not what the model takes.
        TerminalError: The model fails, or the job needs more than a box may.
        TransientError: The box was killed; another try continues.
    """
    _require_program(package, task)
    start = job.read_start()
    assert start is not None
    bundles = job.folder / "bundle"
    if not (bundles / start.commit / "release.json").is_file():
        await asyncio.to_thread(
            make_bundle, package, model, python, bundles, environment="score",
            identifier=start.commit,
        )  # fmt: skip
    bundle = bundles / start.commit
    description = job.folder / "job.json"
    description.write_text(json.dumps(_describe(package, bundle, job, start, task)))
    box = make_box(job.work, bundle, python, description, task.readable)
    argv = start_in(box, [str(python), "-m", MODULE, str(description)])
    if task.cluster:
        argv = await _make_shipment(package, bundle, job, task, argv)
    size = sum(file.stat().st_size for file in task.files.values()) or 1
    async with Progress(artifact_key("score", job.key), f"rows scored by {package.label}") as bar:
        shown = 0.0

        async def watch(line: str) -> None:
            nonlocal shown
            percent = min(99.0, 100 * _read_number(line, "bytes") / size)
            if percent >= shown + _STEP:
                shown = percent
                await bar.set(percent)

        own = programs.VARIABLES if task.cluster else None
        result = await commands.run(
            argv, timeout=_SECONDS, cwd=job.work, env=own, log=False, watch=watch
        )
        return read_totals(result, package.label)


def _require_program(package: Package, task: Task) -> None:
    """Refuse a version whose serving code cannot do the work.

    Raises:
        TerminalError: It cannot.
    """
    code = package.workspace.path / "serving" / "scoring"
    if not (code / "remote.py" if task.cluster else code).exists():
        where = "on a cluster" if task.cluster else "in bulk"
        raise TerminalError(
            f"{package.label} was saved by an earlier version of the template, which cannot score"
            f" {where}",
            state="nothing was scored",
            next_step="take over the new `serving/`, then retrain and deploy",
        )


async def _make_shipment(
    package: Package, bundle: Path, job: Job, task: Task, box: commands.Argv
) -> commands.Argv:
    """Describe what a cluster needs to make boxes, and return the program that uses it."""
    start = job.read_start()
    assert start is not None
    requirements = await read_requirements(package, task.further)
    shipment = job.folder / "shipment.json"
    content = {
        "address": task.cluster,
        "key": f"{job.key}-{start.identity}",
        "bundle": str(bundle),
        "description": str(job.folder / "job.json"),
        "requirements": astuple(requirements),
        "python": package.minor_python,
    }
    shipment.write_text(json.dumps(content))
    return programs.run_module("tasks.scoring.cluster", shipment, json.dumps(box))


def _describe(package: Package, bundle: Path, job: Job, start: Start, task: Task) -> dict[str, Any]:
    return {
        "bundle": str(bundle),
        "files": {name: str(path) for name, path in task.files.items()},
        "folder": str(job.work),
        "method": task.method,
        "reading": describe_reading(package.workspace.parameters, is_table=task.is_table),
        "ending": task.ending,
        "single": task.single,
        "stamp": {
            "model": package.model,
            "version": start.version,
            "commit": start.commit,
            "run": start.run,
            "time": start.time,
        },
        "processes": task.processes,
    }


def describe_reading(parameters: Mapping[str, Any], *, is_table: bool) -> dict[str, Any]:
    """Describe how a source is written: as the data of the model are.

    Tables of databases come with commas and points, and a missing value is an empty cell or one of
    the model's words.
    """
    data = parameters.get("data") or {}
    keys = () if is_table else ("separator", "decimal", "thousands", "encoding", "quote")
    schema = data.get("schema") or {}
    return {key: data[key] for key in keys if key in data} | {
        "missing": {
            name: list(map(str, (column or {}).get("missing") or ()))
            for name, column in schema.items()
        },
        "missing_words": list(map(str, data.get("missing") or ())),
    }


def read_totals(result: commands.CommandResult, label: str) -> Totals:
    """Read the last line of a box; code of a commit may have written it.

    Raises:
        ConfigurationError: The source is not what the model takes.
        TerminalError: The model fails, or the job needs more than a box may.
        TransientError: The box was killed.
    """
    output = result.last_object()
    if result.code == LIMIT_EXCEEDED:
        raise TerminalError(
            f"the job exceeds a limit of its box: {result.tail(2)}",
            state="nothing was published",
            next_step="raise the limit for the worker, see docs/security.md#the-sandbox",
        )
    if "problem" in output and output.get("kind") in (CLUSTER, VERSIONS):
        raise explain_cluster(output)
    if "problem" in output and output.get("kind") == "source":
        raise ConfigurationError(
            f"{label} cannot score this source: {output['problem']}",
            state="nothing was published",
            next_step="correct the source, then run the flow again",
        )
    if "problem" in output:
        raise TerminalError(
            f"the model of {label} fails: {output['problem']}",
            state="nothing was published",
            next_step="score with another version, or train and save again",
        )
    try:
        if result.code:
            raise ValueError
        problems = {
            str(reason): (int(count), list(map(str, rows)))
            for reason, (count, rows) in output["problems"].items()
        }
        return Totals(int(output["rows"]), int(output["rejected"]), problems)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise TransientError(
            f"the processes that score by {label} have ended: {result.tail(3)}",
            state="nothing was published; what they have finished is kept",
            next_step="run the flow again with the same parameters; it continues",
        ) from None


def _read_number(line: str, key: str) -> float:
    try:
        return float(json.loads(line)[key])
    except (ValueError, KeyError, TypeError):
        return 0.0
