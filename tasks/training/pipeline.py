"""The DVC pipeline: its environment, what has changed, and its reproduction."""

from __future__ import annotations

import re
import tomllib
from functools import partial
from pathlib import Path

from tasks.bucket import dvc
from tasks.bucket.boxed_dvc import run_dvc
from tasks.bucket.transfer import restore
from tasks.core import commands
from tasks.core.errors import ConfigurationError, DataRejected, TerminalError
from tasks.core.fast_yaml import read_yaml
from tasks.core.fingerprint import file_digest, fingerprint
from tasks.core.settings import Settings
from tasks.core.yaml12 import load_yaml
from tasks.package.environment import make_environment, read_lock, write_lock
from tasks.package.package import read_at
from tasks.repository.workspace import Workspace
from tasks.runs.artifacts import Progress, artifact_key
from tasks.runs.retrying import capability
from tasks.sandbox.launcher import LIMIT_EXCEEDED
from tasks.training.changes import is_certainly_changed, is_known_unchanged, note_unchanged
from tasks.training.data_selection import select_data
from tasks.training.sources import require_own_data

LAST_STAGE = "evaluate"
_UNTRAINED = "nothing was trained"
_CHECK_SECONDS = 600.0
_STAGE = re.compile(r"^(?:Running stage|Stage) '([^']+)'")
# How the scripts in model/ begin a message that rejects parameters or data.
_REJECTED = "params.yaml: "


@capability(
    "make model environment", run_name="model environment of {workspace.label}", timeout=1800
)
async def make_model_environment(workspace: Workspace) -> Path:
    """Install the model environment that the commit locks; later commits with this lock reuse it.

    Returns:
        The environment's folder.

    Raises:
        TerminalError: The lock cannot be installed.
    """
    project = workspace.path / "model"
    requirements = await read_lock(project, _UNTRAINED)
    try:
        content = tomllib.loads((project / "pyproject.toml").read_text())
        python = str(content["project"]["requires-python"])
    except (OSError, ValueError, KeyError) as error:
        raise TerminalError(
            f"model/pyproject.toml cannot be read: {error!r}",
            state=_UNTRAINED,
            next_step="correct it, run `uv lock --project model`, commit, and run again",
        ) from error

    path = Settings().environments / f"model-{fingerprint(requirements, python)}"
    await make_environment(path, python, partial(write_lock, requirements), _UNTRAINED)
    return path


async def run_pipeline(workspace: Workspace, until: str, *, force: bool = False) -> None:
    """Bring the pipeline up to date, up to a stage; run only changed stages.

    Args:
        workspace: The workspace.
        until: The last stage.
        force: Run every stage, changed or not.

    Raises:
        ConfigurationError: The data are of another repository.
    """
    require_own_data(workspace.path, load_yaml((workspace.path / "params.yaml").read_text()) or {})
    if not force and await is_known_unchanged(workspace, until):
        commands.run_logger().info("nothing has changed up to %s", until)
        return
    async with select_data(workspace):
        reproduced = await _bring_up_to_date(workspace, until, force=force)
    if not reproduced:  # only now, as the workspace is as committed again
        commands.run_logger().info("nothing has changed up to %s", until)
        await note_unchanged(workspace, until)


async def _bring_up_to_date(workspace: Workspace, until: str, *, force: bool) -> bool:
    """Run what has changed; return whether anything has."""
    if not (force or is_certainly_changed(workspace.path, until)):
        await restore(workspace, sources=True)  # without its data, a stage looks changed
        if not await has_changed(workspace, until):
            return False
    environment = await make_model_environment(workspace)
    await restore(workspace, sources=False)
    await reproduce(workspace, environment, until, force=force)
    return True


@capability(
    "reproduce",
    run_name="reproduce {workspace.label} up to {until}",
    timeout=Settings().training_seconds + 60,
)
async def reproduce(
    workspace: Workspace, environment: Path, until: str, *, force: bool = False
) -> None:
    """Run the stages of `dvc.yaml` whose inputs have changed, in the model environment.

    Args:
        workspace: The workspace, with the outputs that the stages read.
        environment: The model environment.
        until: The last stage to run.
        force: Run every stage, changed or not.

    Raises:
        ConfigurationError: A stage rejected `params.yaml` or the data.
        DataRejected: It rejected other data than those that it has accepted with the same
            `params.yaml`.
        TerminalError: A stage failed.
    """
    stages = list(read_yaml((workspace.path / "dvc.yaml").read_text())["stages"])

    key = artifact_key(workspace.model, "pipeline")
    async with Progress(key, f"Pipeline of {workspace.label} up to {until}") as progress:

        async def follow(line: str) -> None:
            if (stage := _STAGE.match(line)) and stage[1] in stages:
                await progress.set(100 * stages.index(stage[1]) / len(stages))

        limit = Settings().training_seconds
        try:
            result = await run_dvc(
                workspace,
                dvc.repro(until, force=force),
                timeout=limit,
                environment=environment,
                watch=follow,
            )
        except commands.CommandTimeout as error:  # another try would take as long
            raise TerminalError(
                f"the pipeline took longer than {limit:.0f} s",
                state="it was stopped; finished stages are in the cache",
                next_step="set SLIPWAY_TRAINING_SECONDS for the worker, or a smaller grid",
            ) from error
    if result.code:
        raise _pipeline_failed(result, until, accepted=await _were_accepted(workspace))


async def _were_accepted(workspace: Workspace) -> bool:
    """Check that the stages have accepted the same `params.yaml` before, with other data."""
    lock = read_yaml(await read_at(workspace, workspace.commit, "dvc.lock")) or {}
    hashes = {
        dependency.get("md5")
        for stage in lock.get("stages", {}).values()
        for dependency in stage.get("deps", [])
        if dependency["path"] == "params.yaml"
    }
    return file_digest(workspace.path / "params.yaml", "md5") in hashes


def _pipeline_failed(
    result: commands.CommandResult, until: str, *, accepted: bool
) -> TerminalError:
    for line in (result.stderr + result.stdout).splitlines():
        if line.startswith(_REJECTED):
            if accepted:
                return DataRejected(
                    f"the data no longer fit: {line}",
                    state="nothing was trained; origin is unchanged; the live model stays",
                    next_step="correct the data where they come from; or edit params.yaml, and"
                    " commit",
                )
            return ConfigurationError(
                line,
                state="nothing was trained; origin is unchanged",
                next_step="correct params.yaml (or the override), and run again",
            )
    if "missing data 'source'" in result.stderr:
        return TerminalError(
            f"neither this host nor the bucket has the data of the commit: {result.tail()}",
            state="nothing was trained; origin is unchanged",
            next_step="run `slipway up` (local stack) or `dvc push` on the host that added them",
        )
    if result.code == LIMIT_EXCEEDED:
        return TerminalError(
            f"the pipeline exceeded a limit of its sandbox: {result.tail(1)}",
            state="it was ended, with all its processes; origin is unchanged",
            next_step="correct the stage, or raise the limit for the worker",
        )
    return TerminalError(
        f"the pipeline failed: {result.tail()}",
        state="its stages before the failed one are in the cache; origin is unchanged",
        next_step=f"correct the stage, test it with `dvc repro {until}`, commit, and run again",
    )


@capability("check for changes", run_name="check for changes up to {until}", timeout=_CHECK_SECONDS)
async def has_changed(workspace: Workspace, until: str) -> bool:
    """Check for a stage, up to one, that would run if this host had all data.

    Returns:
        False if the commit's outputs are those of its code, data and parameters.
    """
    result = await run_dvc(workspace, dvc.list_changes(until), timeout=_CHECK_SECONDS, log=False)
    # It also fails if this host lacks the data of a changed stage.
    return result.code != 0 or "Running stage" in result.stdout
