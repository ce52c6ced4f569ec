"""Checks of origin, by use: clone, push, and the commit that workers clone."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from deployments.catalogue.prefect_yaml import Manifest, is_url
from deployments.diagnosis.finding import Finding, problem
from tasks.core.commands import Argv, CommandResult
from tasks.core.errors import SlipwayError
from tasks.core.settings import CHECKOUT, Settings
from tasks.repository import git, git_variables

_GIT_SECONDS = 30.0
_PROBE_BRANCH = "slipway-doctor"
_CREDENTIALS = re.compile(r"://[^/@\s]*@")


async def check_origin() -> AsyncIterator[Finding]:
    """Check that this host can clone origin and push to it."""
    url = Settings().origin
    yield await run_git("origin, to clone", git.list_branches(url), "answers")
    yield await run_git("origin, to push", git.try_push(url, _PROBE_BRANCH), "accepts a branch")


async def check_pinned_commit() -> Finding | None:
    """Check that origin has the commit that workers clone; None if they use a checkout."""
    url = Settings().origin
    if os.environ.get("SLIPWAY_CHECKOUT") or not is_url(url):
        return None
    commit = Manifest.read(CHECKOUT).version(CHECKOUT)
    with TemporaryDirectory() as folder:
        await _run(git.init_bare(), Path(folder))
        fetch = git.fetch_only(url, commit)
        finding = await run_git(
            "commit that workers clone", fetch, f"has {commit[:7]}", folder=Path(folder)
        )
    return finding if finding.ok else replace(finding, fix="git push, so that workers can clone it")


async def run_git(
    thing: str,
    argv: Argv,
    success: str,
    settings: Mapping[str, str] | None = None,
    folder: Path = CHECKOUT,
) -> Finding:
    """Check something by a Git command on origin.

    Args:
        thing: The thing that is checked.
        argv: The command.
        success: The result if the command succeeds, after the URL of origin.
        settings: Further settings of Git, which may be secret.
        folder: Folder to run it in.
    """
    try:
        done = await _run(argv, folder, settings)
    except SlipwayError as error:
        return problem(thing, error)
    url = _CREDENTIALS.sub("://", Settings().origin)
    if done.code:
        reason = _CREDENTIALS.sub("://", done.tail(3))
        return Finding(thing, f"{url}: {reason}", "set SLIPWAY_ORIGIN, and give this host access")
    return Finding(thing, f"{url} {success}")


async def _run(
    argv: Argv, folder: Path, settings: Mapping[str, str] | None = None
) -> CommandResult:
    return await git_variables.run_git(argv, timeout=_GIT_SECONDS, cwd=folder, settings=settings)
