"""The bridge to MLflow: parameters, metrics, model cards and versions are logged there as well.

It is on where the worker has `MLFLOW_TRACKING_URI`. Its package is an extra of the orchestrator's
environment. What MLflow refuses is a warning: Git and the Prefect server have all of it anyway.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.core.errors import ConfigurationError
from tasks.package.package import Package, read_metrics, read_package
from tasks.repository.workspace import Workspace
from tasks.runs.artifacts import best_effort

URI = "MLFLOW_TRACKING_URI"
# Its own defaults retry an absent server for minutes, and report its use to its makers.
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_SECONDS = 60.0
_MD5, _COMMIT, _VERSION = "slipway.md5", "slipway.commit", "slipway.version"
_FORBIDDEN = re.compile(r"[^\w\-. :/]")  # in names of parameters and metrics
_LONGEST, _BATCH = 6000, 100  # characters of a value, parameters of a request


@dataclass(frozen=True)
class Record:
    """A model as it is logged.

    Attributes:
        model: Its name: that of the experiment and of the registered model.
        commit: Its commit.
        md5: Hash of its file, by which it is found again.
        parameters: Content of `params.yaml`.
        metrics: Its metrics, by name.
        files: Texts to keep with it, by file name.
    """

    model: str
    commit: str
    md5: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    files: Mapping[str, str] = field(default_factory=dict)


async def log_model(workspace: Workspace, commit: str, card: str) -> None:
    """Log a saved candidate, if MLflow is in use.

    Args:
        workspace: The workspace with the reports.
        commit: The candidate.
        card: Its model card, in markdown.
    """
    uri = os.environ.get(URI, "")
    if not uri:
        return
    with best_effort("the model in MLflow"):
        files = {"model-card.md": card}
        for path in sorted((workspace.path / "reports").glob("*.json")):
            files[f"reports/{path.name}"] = path.read_text()
        record = _make_record(read_package(workspace), commit, files)
        await _call(uri, write_run, record)


async def log_version(package: Package, version: str, environment: str) -> None:
    """Log which version is live in an environment, if MLflow is in use.

    Args:
        package: The package that is live.
        version: Name of its version.
        environment: Name of the environment, the alias of the version in MLflow.
    """
    uri = os.environ.get(URI, "")
    if not uri:
        return
    with best_effort("the version in MLflow"):
        record = _make_record(package, package.commit, {})
        await _call(uri, write_version, record, version, environment)


async def _call(uri: str, write: Callable[..., object], *arguments: object) -> None:
    """Write in a thread: the import of MLflow alone takes seconds."""

    def connect_and_write() -> None:
        write(connect(uri), *arguments)

    await asyncio.wait_for(asyncio.to_thread(connect_and_write), _SECONDS)


def _make_record(package: Package, commit: str, files: Mapping[str, str]) -> Record:
    workspace = package.workspace
    metrics = read_metrics(workspace)
    return Record(package.model, commit, package.md5, workspace.parameters, metrics, files)


def connect(uri: str) -> Any:
    """Connect to an MLflow server.

    Args:
        uri: Its address; credentials are in the variables that MLflow knows.

    Raises:
        ConfigurationError: The extra is not installed.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        mlflow = importlib.import_module("mlflow")
    except ImportError as error:
        raise ConfigurationError(
            f"{URI} is set, and the worker's environment has no mlflow",
            state="nothing was logged to MLflow; all else went on",
            next_step="run `uv sync --inexact --extra mlflow` in the worker's checkout",
        ) from error
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def write_run(client: Any, record: Record) -> str:
    """Write a model as a run, unless it is there; return the run's id.

    Args:
        client: From `connect`.
        record: The model.
    """
    entities = importlib.import_module("mlflow.entities")
    experiment = client.get_experiment_by_name(record.model)
    place = experiment.experiment_id if experiment else client.create_experiment(record.model)
    runs = client.search_runs([place], f"tags.`{_MD5}` = '{record.md5}'", max_results=1)
    if runs:
        return str(runs[0].info.run_id)
    name = f"{record.model}@{record.commit[:7]}"
    run = client.create_run(place, tags={_COMMIT: record.commit}, run_name=name).info.run_id
    parameters = [entities.Param(key, value) for key, value in flatten(record.parameters).items()]
    for start in range(0, len(parameters), _BATCH):
        client.log_batch(run, params=parameters[start : start + _BATCH])
    now = int(time.time() * 1000)
    measured = [
        entities.Metric(_FORBIDDEN.sub("_", name), value, now, 0)
        for name, value in record.metrics.items()
    ]
    client.log_batch(run, metrics=measured)
    for path, text in record.files.items():
        client.log_text(run, text, path)
    client.set_tag(run, _MD5, record.md5)  # last: a run that was killed before is not found again
    client.set_terminated(run)
    return str(run)


def write_version(client: Any, record: Record, version: str, environment: str) -> None:
    """Write a version of a registered model, and give it the alias of an environment.

    Args:
        client: From `connect`.
        record: The model.
        version: Name of the version in Git, such as `v0.0.3`.
        environment: The alias.
    """
    run = client.get_run(write_run(client, record))
    if not client.search_registered_models(f"name = '{record.model}'"):
        client.create_registered_model(record.model)
    known = [
        registered.version
        for registered in client.search_model_versions(f"name = '{record.model}'")
        if registered.tags.get(_VERSION) == version
    ]
    if not known:
        made = client.create_model_version(
            record.model,
            source=run.info.artifact_uri,
            run_id=run.info.run_id,
            tags={_VERSION: version, _COMMIT: record.commit},
            await_creation_for=0,  # it has no bytes to wait for
        )
        known = [made.version]
    client.set_registered_model_alias(record.model, environment, known[0])


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested parameters into names and texts that MLflow takes: dots between levels."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[_FORBIDDEN.sub("_", name)] = str(value)[:_LONGEST]
    return flat
