"""Packages: a saved model as the commit describes it, verified before anything unpickles it.

What MLEM wrote is read here as YAML; no MLEM, and no model, is loaded in the orchestrator.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import AsyncFileLock

from tasks import commands, uv
from tasks.capability import capability
from tasks.errors import ConfigurationError, TerminalError
from tasks.fingerprint import fingerprint
from tasks.git import Argv
from tasks.settings import Settings
from tasks.storage import file_digest
from tasks.workspace import Workspace

_INSTALL_SECONDS = 900.0


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
        packages: Exact versions of what the model needs to run, by distribution.
        golden: Golden predictions: `inputs` and `outputs` by method.
        serving: Fingerprint of all else that is served: serving code and lock, interface,
            golden predictions, packages.
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

    @property
    def label(self) -> str:
        """Model and commit, for names of runs."""
        return f"{self.model}@{self.commit[:7]}"

    @property
    def minor_python(self) -> str:
        """The Python to run it on: 3.11.7 runs what 3.11.9 saved."""
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
    """Read what the commit says about its saved model.

    Args:
        workspace: The workspace at the commit.

    Returns:
        The package; the model's bytes are not needed yet.

    Raises:
        TerminalError: There is no saved model at the commit, or its metadata disagree.
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
        mlem = yaml.safe_load(mlem_path.read_text())
        golden = json.loads(golden_path.read_text())
        runtime = json.loads(runtime_path.read_text())
        artifact = runtime["artifacts"][f"model/{model}"]
        recorded = {entry["hash"] for entry in mlem["artifacts"].values()}
        lock = yaml.safe_load((workspace.path / "dvc.lock").read_text())
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


@capability("verify artifact", run_name="verify bytes of {package.label}", timeout=600)
async def verify_artifact(package: Package, file: Path) -> None:
    """Hold the model file against the size and SHA-256 in Git, before anything unpickles it.

    Args:
        package: What the commit says.
        file: The file that came out of the bucket.

    Raises:
        TerminalError: It is not the file that was saved.
    """
    size, sha256 = file.stat().st_size, await asyncio.to_thread(file_digest, file, "sha256")
    if (size, sha256) == (package.size, package.sha256):
        commands.run_logger().info("%s: %d bytes, SHA-256 as in Git", package.artifact, size)
        return
    raise TerminalError(
        f"{package.artifact} in the bucket is not the model that was saved:"
        f" {size} bytes with SHA-256 {sha256[:12]},"
        f" should be {package.size} bytes with {package.sha256[:12]}",
        state="it was not loaded; the live model is untouched",
        next_step=f"run the push flow at {package.commit[:7]}, which replaces wrong objects, and"
        " find out who wrote to the bucket",
    )


@capability("make runtime", run_name="runtime of {package.label}", timeout=2 * _INSTALL_SECONDS)
async def make_runtime(package: Package) -> Path:
    """Install what the model and its server need; models with the same needs share it.

    Args:
        package: The package.

    Returns:
        Path of the environment's Python.

    Raises:
        TerminalError: The requirements cannot be installed.
    """
    needed = await read_requirements(package)
    folder = Settings().environments
    folder.mkdir(parents=True, exist_ok=True)
    python = package.minor_python
    path = folder / f"runtime-{fingerprint(needed.serving, needed.model, python)}"
    async with AsyncFileLock(f"{path}.lock"):
        if not path.is_dir():
            # Made under another name: a folder with the final name is complete.
            partial = path.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            await run_uv(uv.venv(partial, python))
            files = needed.write(partial)
            await run_uv(uv.install(partial, files, overrides=files[-1]))
            partial.rename(path)
    return path / "bin" / "python"


@dataclass(frozen=True)
class Requirements:
    """What a model and its server need, pinned.

    Where both pin the same package, the model's version wins: it is the one the model was trained
    with, and preflight proves that the server runs on it.

    Attributes:
        serving: The server's, as lines of a requirements file.
        model: The model's.
    """

    serving: str
    model: str

    def write(self, folder: Path) -> list[Path]:
        """Write both as files into a folder; the one that wins is the last."""
        serving, model = folder / "serving.txt", folder / "model.txt"
        serving.write_text(self.serving)
        model.write_text(self.model)
        return [serving, model]


async def read_requirements(package: Package) -> Requirements:
    """What the commit says that the model and its server need.

    Args:
        package: The package.

    Returns:
        The requirements.
    """
    serving = await run_uv(uv.export(package.workspace.path / "serving"))
    model = "".join(f"{name}=={version}\n" for name, version in sorted(package.packages.items()))
    return Requirements(serving.stdout, model)


async def run_uv(argv: Argv, **variables: str) -> commands.Finished:
    """Run uv on what a model needs.

    Args:
        argv: The command.
        variables: Environment variables for it.

    Returns:
        What it said.

    Raises:
        TerminalError: It failed, and would again.
        TransientError: The package index could not be reached.
    """
    finished = await commands.run(argv, timeout=_INSTALL_SECONDS, env=variables, log=False)
    if finished.code:
        raise uv.install_failed(
            finished,
            state="the live model is untouched",
            next_step="check that the package index has these versions, or save the model again"
            " with versions it has",
        )
    return finished


@dataclass(frozen=True)
class Bundle:
    """A folder that `python -m serving` runs.

    Attributes:
        package: The package in it.
        identifier: Name of the release, unique on the host and sorted by time.
        path: The folder.
        python: Python of the runtime.
        environment: Where it is to be released.
    """

    package: Package
    identifier: str
    path: Path
    python: Path
    environment: str

    def describe(self, version: str | None) -> None:
        """Write `release.json`, which `/version` answers.

        Args:
            version: Name of the model version, None as long as it has none.
        """
        release = {
            "name": self.package.model,
            "version": version,
            "commit": self.package.commit,
            "md5": self.package.md5,
            "environment": self.environment,
            "release": self.identifier,
            "serving": self.package.serving,
        }
        (self.path / "release.json").write_text(json.dumps(release, indent=2))


def make_bundle(
    package: Package, file: Path, python: Path, folder: Path, *, environment: str, identifier: str
) -> Bundle:
    """Put model, metadata and serving code of the commit into one folder.

    Args:
        package: The package.
        file: Its verified model file.
        python: Python of its runtime.
        folder: Where to.
        environment: Where it is to be released.
        identifier: Name of the release.

    Returns:
        The bundle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / identifier, folder / f"{identifier}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    shutil.copy2(file, partial / package.model)
    for source in package.files:
        shutil.copy2(source, partial)
    shutil.copytree(package.workspace.path / "serving", partial / "serving")
    bundle = Bundle(package, identifier, path, python, environment)
    partial.rename(path)
    bundle.describe(version=None)
    return bundle


def read_metrics(workspace: Workspace) -> dict[str, float]:
    """Metrics of the commit's model on the test split.

    Args:
        workspace: The workspace at the commit.

    Returns:
        The numbers of `reports/metrics.json`, by name.

    Raises:
        ConfigurationError: There are none.
    """
    path = workspace.path / "reports" / "metrics.json"
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"reports/metrics.json at {workspace.ref} cannot be read: {error}",
            state="nothing was changed",
            next_step=f"run the save flow at {workspace.ref}, which evaluates the model",
        ) from error
    return {key: value for key, value in values.items() if isinstance(value, int | float)}
