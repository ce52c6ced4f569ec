"""Our tags beside GTO's own: the next one is called alike, and GTO reads the same from both."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.repository.git import Git
from tasks.repository.gto import next_release, next_version
from tasks.repository.tags import make_tag, tag_names
from tasks.repository.workspace import Workspace
from tests.fork_server import ForkServer

# GTO's tags have the time of the clock, Git's that of the variable.
_GTO = """
import os, sys, time
time.time = lambda: int(os.environ["GIT_COMMITTER_DATE"].split()[0])
from gto.cli import app
sys.exit(app())
"""
_MOMENT = 1_764_000_000  # seconds since 1970
# A model; its commit, by the number of steps before HEAD; the environments it is released to.
_STORY = [
    ("wine", 4, ["local"]),
    ("wine", 3, ["local", "production"]),
    ("winery", 3, ["local"]),
    ("wine", 2, []),
    ("wine", 1, ["production", "local"]),
]


@pytest.fixture(scope="module")
def gto() -> Iterator[ForkServer]:
    forks = ForkServer(["gto.cli"], os.environ)
    yield forks
    forks.close()


def _run(gto: ForkServer, folder: Path, *arguments: str) -> str:
    process = gto.start(_GTO, list(arguments), dict(os.environ), folder)
    with process.stdout as output:
        text = output.read()
    assert process.wait(60) == 0, text
    return str(text)


def _read(gto: ForkServer, folder: Path) -> list[Any]:
    """Return what GTO says of a repository; its history without the moments."""
    shown = json.loads(_run(gto, folder, "show", "--json"))
    history = json.loads(_run(gto, folder, "history", "--json"))
    for event in history:
        del event["timestamp"]
    return [shown, sorted(history, key=lambda event: str(event["ref"]))]


@pytest.fixture
def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Workspace, Path]:
    """Two repositories with the same commits and tags, some of them odd."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Slipway")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "slipway@localhost")
    monkeypatch.setenv("SLIPWAY_SIGNING_KEY_FILE", "")  # GTO does not sign
    here, there = tmp_path / "ours", tmp_path / "gto"
    here.mkdir()
    git = Git(here)
    git("init", "--quiet", "--initial-branch=main")
    (here / "params.yaml").write_text("name: wine\n")
    git("add", "--all")
    for number in range(6):
        git("commit", "--quiet", "--allow-empty", f"--message={number}")
    git("tag", "--annotate", "--message=x", "wine@v0.9.9-rc.1", "HEAD~5")
    git("tag", "--annotate", "--message=x", "wine#local#10", "HEAD~5")
    git("tag", "--annotate", "--message=x", "unrelated", "HEAD~5")
    shutil.copytree(here, there)
    return Workspace(here, git("rev-parse", "HEAD"), "main"), there


async def test_tags_are_those_that_gto_makes(
    twins: tuple[Workspace, Path], gto: ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = twins
    clone = Git(ours.path)
    for number, (model, steps, environments) in enumerate(_STORY):
        # GTO orders tags by their second; what is of the same one it orders by chance.
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"{_MOMENT + number} +0000")
        commit = clone("rev-parse", f"HEAD~{steps}")
        tag = next_version(model, await tag_names(ours))
        await make_tag(ours, tag, commit, "Registered")
        _run(gto, theirs, "register", model, commit, "--message", "Registered")
        for environment in environments:
            release = next_release(model, environment, await tag_names(ours))
            await make_tag(ours, release, commit, "Released by Slipway\n\nFlow-Run: 7")
            version = tag.partition("@")[2]
            _run(
                gto, theirs, "assign", model, "--version", version, "--stage", environment,
                "--simple", "false", "--force", "--message", "Released by Slipway\n\nFlow-Run: 7",
            )  # fmt: skip
    names = "--format=%(objecttype) %(*objectname) %(refname) %(taggerdate)"
    assert clone("for-each-ref", names, "refs/tags") == Git(theirs)(
        "for-each-ref", names, "refs/tags"
    )
    assert _read(gto, ours.path) == _read(gto, theirs)
    assert "wine@v0.9.13" in await tag_names(ours)


def test_number_is_not_given_twice() -> None:
    names = ["wine@v0.0.9", "wine@v0.0.10", "wine@v0.0.11!", "wine@v0.0.2!#4", "winery@v7.0.0"]
    assert next_version("wine", names) == "wine@v0.0.12"
    assert next_version("port", names) == "port@v0.0.1"
    assert next_version("wine", ["wine@v1.2.3-rc.1", "wine@v1.x.9", "wine@v1.2"]) == "wine@v1.2.4"
    releases = ["wine#local#9", "wine#production!#10", "wine#local", "wine#99", "winery#local#50"]
    assert next_release("wine", "local", releases) == "wine#local#11"
    assert next_release("wine", "local", [*releases, *names, "wine@v0.0.1!#12"]) == "wine#local#13"
    assert next_release("port", "local", releases) == "port#local#1"
