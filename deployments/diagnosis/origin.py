"""Checks of origin, by use: clone, push, and the commit that workers clone."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from deployments.catalogue.prefect_yaml import Manifest, is_url
from deployments.diagnosis.finding import Finding, problem
from tasks.core import commands
from tasks.core.errors import SlipwayError
from tasks.core.settings import CHECKOUT, Settings
from tasks.repository import git

_GIT_SECONDS = 30.0


_PROBE_BRANCH = "slipway-doctor"


_CREDENTIALS = re.compile(r"://[^/@\s]*@")


async def origin() -> AsyncIterator[Finding]:
    """Whether flows can clone origin and push to it, with the rights of this host."""
    url = Settings().origin
    yield await _git("origin, to clone", git.list_branches(url), "answers")
    yield await _git("origin, to push", git.try_push(url, _PROBE_BRANCH), "would take a branch")


async def pinned() -> Finding | None:
    """Whether workers that clone origin find there the commit that `apply` pins them to."""
    url = Settings().origin
    if os.environ.get("SLIPWAY_CHECKOUT") or not is_url(url):
        return None
    commit = Manifest.read(CHECKOUT).version(CHECKOUT)
    with TemporaryDirectory() as folder:
        await commands.run(git.init_bare(), timeout=_GIT_SECONDS, cwd=Path(folder), log=False)
        fetch = git.fetch_only(url, commit)
        found = await _git("what workers clone", fetch, f"has {commit[:7]}", folder=Path(folder))
    return found if found.ok else replace(found, fix="git push, so that workers can clone it")


async def _git(
    thing: str,
    argv: Sequence[str],
    said: str,
    variables: Mapping[str, str] | None = None,
    folder: Path = CHECKOUT,
) -> Finding:
    environment = {"GIT_TERMINAL_PROMPT": "0", **(variables or {})}
    try:
        done = await commands.run(
            argv, timeout=_GIT_SECONDS, cwd=folder, env=environment, log=False
        )
    except SlipwayError as error:
        return problem(thing, error)
    shown = _CREDENTIALS.sub("://", Settings().origin)
    if done.code:
        why = _CREDENTIALS.sub("://", done.tail(3))
        return Finding(thing, f"{shown}: {why}", "set SLIPWAY_ORIGIN, and give this host access")
    return Finding(thing, f"{shown} {said}")
