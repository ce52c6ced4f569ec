"""Packages: a saved model as the commit describes it, verified before anything unpickles it.

MLEM's metadata is read as YAML: the orchestrator loads neither MLEM nor a model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tasks.core import commands
from tasks.core.errors import CandidateRejected, ConfigurationError, TerminalError
from tasks.core.fast_yaml import read_yaml
from tasks.core.fingerprint import file_digest, fingerprint
from tasks.repository import git
from tasks.repository.workspace import Workspace
from tasks.runs.retrying import capability


@dataclass(frozen=True)
class Package:
    """A saved model at a commit.

    Attributes:
        workspace: The workspace at that commit.
        model: Name of the model.
        commit: The commit.
        md5: md5 of the model file, as in its `.mlem`.
        sha256: SHA-256 of the model file, as recorded beside the `.mlem`.
        size: Bytes of the model file.
        python: Python version the model was trained with.
        packages: Exact versions of the distributions that the model imports.
        hashes: Hashes of their files, as locked when the model was saved; None for a model that was
            saved before they were recorded.
        golden: Golden predictions: `inputs` and `outputs` by method.
        serving: Fingerprint of everything else in the release: serving code and lock, interface,
            golden predictions, packages.
        attachments: Content of further files of a release, by name: signature and allowed keys of
            a version that was verified.
    """

    workspace: Workspace
    model: str
    commit: str
    md5: str
    sha256: str
    size: int
    python: str
    packages: Mapping[str, str]
    golden: Mapping[str, Any]
    serving: str
    hashes: Mapping[str, Sequence[str]] | None = None
    attachments: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Model and commit, for names of runs."""
        return f"{self.model}@{self.commit[:7]}"

    @property
    def minor_python(self) -> str:
        """The Python to run it on: 3.11.7 runs a model that 3.11.9 saved."""
        return ".".join(self.python.split(".")[:2])

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """Metadata files, in the workspace: `.mlem`, golden predictions, runtime."""
        return _metadata_files(self.workspace)

    @property
    def artifact(self) -> str:
        """Path of the model file in the workspace, which is also its DVC target."""
        return f"model/{self.model}"


def _metadata_files(workspace: Workspace) -> tuple[Path, Path, Path]:
    stem = workspace.path / "model" / workspace.model
    return (
        stem.with_name(f"{stem.name}.mlem"),
        stem.with_name(f"{stem.name}.golden.json"),
        stem.with_name(f"{stem.name}.runtime.json"),
    )


def read_package(workspace: Workspace) -> Package:
    """Read the metadata of the commit's saved model, without the model file.

    Args:
        workspace: The workspace at the commit.

    Raises:
        TerminalError: The commit has no saved model, or its metadata disagree.
    """
    model = workspace.model
    mlem_path, golden_path, runtime_path = files = _metadata_files(workspace)
    for path in files:
        if not path.is_file():
            raise TerminalError(
                f"model/{path.name} is missing at {workspace.ref} ({workspace.commit[:7]})",
                state="nothing was changed",
                next_step=f"run the save flow at {workspace.ref} (or `retrain`), then this again",
            )
    try:
        mlem = read_yaml(mlem_path.read_text())
        golden = json.loads(golden_path.read_text())
        runtime = json.loads(runtime_path.read_text())
        artifact = runtime["artifacts"][f"model/{model}"]
        recorded = {entry["hash"] for entry in mlem["artifacts"].values()}
        lock = read_yaml((workspace.path / "dvc.lock").read_text())
        locked = {
            out["md5"]
            for stage in lock["stages"].values()
            for out in stage.get("outs", [])
            if out["path"] == f"model/{model}"
        }
        package = Package(
            workspace=workspace,
            model=model,
            commit=workspace.commit,
            md5=artifact["md5"],
            sha256=artifact["sha256"],
            size=artifact["size"],
            python=runtime["python"],
            packages=runtime["packages"],
            hashes=runtime.get("hashes"),
            golden=golden,
            serving=fingerprint(workspace.path / "serving", mlem_path, golden_path, runtime_path),
        )
        rows = len(golden["inputs"])
        lengths = {len(outputs) for outputs in golden["outputs"].values()}
    except (OSError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise TerminalError(
            f"the metadata of model/{model} at {workspace.ref} cannot be read:"
            f" {type(error).__name__}: {error}",
            state="nothing was changed",
            next_step=f"run the save flow at {workspace.ref} to write it again",
        ) from error
    consistent = recorded == locked == {package.md5}
    if not consistent or not rows or lengths != {rows} or "predict" not in golden["outputs"]:
        raise TerminalError(
            f"the metadata of model/{model} at {workspace.ref} disagree: .mlem {recorded},"
            f" dvc.lock {locked}, runtime.json {package.md5}; {rows} golden inputs,"
            f" outputs of {', '.join(golden['outputs']) or 'no method'} in lengths {lengths}",
            state="nothing was changed",
            next_step=f"run the save flow at {workspace.ref} to write them together",
        )
    return package


def make_body(rows: Sequence[Any]) -> dict[str, Any]:
    """Make the body of a request for predictions.

    Args:
        rows: By column for a model on DataFrames, else lists or values.
    """
    frame = isinstance(rows[0], Mapping)
    return {"data": {"values": rows} if frame else rows}


@capability("verify artifact", run_name="verify bytes of {package.label}", timeout=600)
async def verify_artifact(package: Package, file: Path) -> None:
    """Compare the model file with the size and SHA-256 in Git, before anything unpickles it.

    Args:
        package: The package of the commit.
        file: The file, downloaded from the bucket.

    Raises:
        CandidateRejected: It is not the file that was saved.
    """
    size, sha256 = file.stat().st_size, await asyncio.to_thread(file_digest, file, "sha256")
    if (size, sha256) == (package.size, package.sha256):
        commands.run_logger().info("%s: %d bytes, SHA-256 as in Git", package.artifact, size)
        return
    raise CandidateRejected(
        f"{package.artifact} in the bucket is not the model that was saved:"
        f" {size} bytes with SHA-256 {sha256[:12]},"
        f" should be {package.size} bytes with {package.sha256[:12]}",
        state="it was not loaded; the live model is unchanged",
        next_step=f"run the push flow at {package.commit[:7]}, which replaces wrong objects, and"
        " find out who wrote to the bucket",
    )


def read_metrics(workspace: Workspace) -> dict[str, float]:
    """Read the metrics of the commit's model on the test split, by name.

    Args:
        workspace: The workspace at the commit.

    Raises:
        ConfigurationError: The commit has no valid `reports/metrics.json`.
    """
    path = workspace.path / "reports" / "metrics.json"
    try:
        return _numbers(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"reports/metrics.json at {workspace.ref} cannot be read: {error}",
            state="nothing was changed",
            next_step=f"run the save flow at {workspace.ref}, which evaluates the model",
        ) from error


async def read_at(workspace: Workspace, commit: str, path: str) -> str:
    """Return the text of a file at a commit; empty if the commit does not have it.

    Args:
        workspace: The workspace.
        commit: The commit; empty for the workspace itself, with what is not committed.
        path: Path of the file.
    """
    if not commit:
        file = workspace.path / path
        return file.read_text() if file.is_file() else ""
    result = await workspace.git(git.show(commit, path), ok=(0, 128))
    return result.stdout if result.code == 0 else ""


async def metrics_at(workspace: Workspace, commit: str) -> dict[str, float] | None:
    """Return the metrics of the model at a commit, by name; None if it has none, or no valid ones.

    Args:
        workspace: Any workspace of the model.
        commit: The commit.
    """
    try:
        return _numbers(await read_at(workspace, commit, "reports/metrics.json"))
    except ValueError:
        return None


def _numbers(text: str) -> dict[str, float]:
    """Return the numbers of a JSON object.

    Raises:
        ValueError: It is none.
    """
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    return {key: value for key, value in values.items() if isinstance(value, int | float)}
