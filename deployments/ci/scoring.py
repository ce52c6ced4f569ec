"""Both models of a pull request, started and asked as the gate of a deploy does it.

The files are those that a step before has pulled from the bucket, and what the pipeline has made
since: this program has no credentials. It is no flow, so that it needs no Prefect server.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tasks.bucket.objects import outputs_of
from tasks.core.errors import TerminalError
from tasks.core.fingerprint import file_digest
from tasks.package.package import verify_artifact
from tasks.package.runtime import make_runtime
from tasks.repository.git import Git
from tasks.repository.workspace import Workspace
from tasks.runs.retrying import without_prefect
from tasks.training.dossier import Evidence
from tasks.training.likeness import is_same_model, keeps_sides
from tasks.training.rows import Inputs
from tasks.training.rules import Rules
from tasks.training.served import Files, Model, NotComparable, load_model
from tasks.training.trials import Pair, try_models


async def score(workspace: Workspace, base: str, rules: Rules, evidence: Evidence) -> Evidence:
    """Have the model of a checkout, and that of its base, answer the same rows.

    Args:
        workspace: The checkout.
        base: The base commit.
        rules: The rules.
        evidence: What their stored answers show.

    Returns:
        The evidence with what they have shown; as it was, and early, if their files are not here.
        Nothing is asked if both are the same model.
    """
    if await is_same_model(workspace, base):
        return replace(evidence, is_same_model=True)
    with _check_out(workspace.path, base) as former:
        files = Files(
            Cache(workspace.path / ".dvc" / "cache").find,
            without_prefect(verify_artifact),
            without_prefect(make_runtime),
        )
        try:
            candidate = await load_model(workspace, files=files)
        except TerminalError as error:  # it would be refused by a deploy, too
            return replace(evidence, needs_scores=True, why_untried=error.what)
        except NotComparable as error:
            return _leave_to_deploy(evidence, str(error))
        champion = None
        try:
            if (former.path / f"model/{former.model}.runtime.json").is_file():
                champion = await load_model(former, candidate.data.inputs, files)
        except (NotComparable, TerminalError) as error:
            why = error.what if isinstance(error, TerminalError) else str(error)
            return _leave_to_deploy(evidence, why)

        async def give_candidate() -> Model:
            return candidate

        async def give_champion(_: Inputs) -> Model:
            assert champion
            return champion

        pair = Pair(
            give_candidate,
            give_champion if champion else None,
            keeps_sides=await keeps_sides(workspace, base),
        )
        try:
            return await try_models(pair, rules, replace(evidence, needs_scores=True))
        finally:
            shutil.rmtree(workspace.path / "gate", ignore_errors=True)


def _leave_to_deploy(evidence: Evidence, why: str) -> Evidence:
    return replace(evidence, is_early=True, why_none=why, why_untried=why)


class Cache:
    """Files of commits in a checkout's DVC cache, which is all that there is.

    Args:
        folder: The cache.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def find(self, workspace: Workspace, path: str) -> Path:
        """Return the file of an output, with the content that the commit names.

        Raises:
            NotComparable: It is not here.
        """
        outputs = await outputs_of(workspace)
        stored = next((stored for stored in outputs if stored.path == path), None)
        for file in (workspace.path / path, *([self._folder / stored.key] if stored else [])):
            if file.is_file() and (
                stored is None or await asyncio.to_thread(file_digest, file, "md5") == stored.md5
            ):
                return file
        raise NotComparable(f"{path} of {workspace.label} is not in this job's cache")


@contextmanager
def _check_out(checkout: Path, commit: str) -> Iterator[Workspace]:
    """Check a commit out beside a block of code."""
    git = Git(checkout)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "base"
        git("worktree", "add", "--quiet", "--detach", str(path), commit)
        try:
            yield Workspace(path, Git(path)("rev-parse", "HEAD"), commit)
        finally:
            git("worktree", "remove", "--force", str(path))
