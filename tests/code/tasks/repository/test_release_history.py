"""The timeline of an environment, read from real tags."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.reports.markdown import commit_link
from tasks.reports.timeline import timeline
from tasks.repository.forge import find_forge
from tasks.repository.git import Git
from tasks.repository.gto import next_release
from tasks.repository.release_history import (
    Entry,
    fetch_history,
    not_rolled_back,
    read_history,
    rollback_of,
    tag_message,
)
from tasks.repository.tags import make_tag, tag_names
from tasks.repository.versions import champion_of
from tasks.repository.workspace import Workspace, is_older


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A repository of a model `wine` with two commits, not yet released."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@localhost")
    git = Git(tmp_path)
    git("init", "--quiet", "--initial-branch=main")
    (tmp_path / "params.yaml").write_text("name: wine\n")
    git("add", "--all")
    for subject in ("one", "two"):
        git("commit", "--quiet", "--allow-empty", f"--message={subject}")
    return Workspace(tmp_path, git("rev-parse", "HEAD"), "main")


async def _release(workspace: Workspace, commit: str, version: str, message: str) -> None:
    await make_tag(workspace, f"wine@{version}", commit, "Registered")
    names = await tag_names(workspace)
    await make_tag(workspace, next_release("wine", "local", names), commit, message)


async def test_history_is_read_from_tags(workspace: Workspace) -> None:
    assert await read_history(workspace, "local") == []
    first = (await workspace.git(["git", "rev-parse", "HEAD~1"])).stdout.strip()
    run_id = "7f0c8a9e-0000-4000-8000-000000000000"
    message = tag_message(before="-", approval="", run=run_id, rollback=False)
    await _release(workspace, first, "v0.0.1", message)
    message = tag_message(
        before="wine@1234567", approval="approved: Jo,\nFlow-Run: me", run="", rollback=True
    )
    await _release(workspace, workspace.commit, "v0.0.2", message)
    newest, oldest = await read_history(workspace, "local")
    assert (newest.version, newest.commit, newest.run) == ("v0.0.2", workspace.commit, "")
    assert (newest.before, newest.approval) == ("wine@1234567", "approved: Jo, Flow-Run: me")
    assert (oldest.version, oldest.commit, oldest.before) == ("v0.0.1", first, "-")
    assert oldest.run == run_id
    assert (newest.rollback, oldest.rollback) == (True, False)
    assert await read_history(workspace, "production") == []


async def test_history_follows_numbers_although_the_clock_was_set_back(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = Git(workspace.path)
    first = git("rev-parse", "HEAD~1")
    for number, (commit, hour) in enumerate(((first, 23), (workspace.commit, 22)), start=1):
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"2099-01-01T{hour}:00:00Z")
        for tag in (f"wine@v0.0.{number}", f"wine#local#{number}"):
            git("tag", "--annotate", "--message=Released", tag, commit)
    monkeypatch.delenv("GIT_COMMITTER_DATE")
    git("commit", "--quiet", "--allow-empty", "--message=three")
    await _release(workspace, git("rev-parse", "HEAD"), "v0.0.3", "Released")
    versions = [entry.version for entry in await read_history(workspace, "local")]
    assert versions == ["v0.0.3", "v0.0.2", "v0.0.1"]
    champion = await champion_of(workspace, "local")
    assert champion
    assert champion.name == "v0.0.3"


async def test_fetch_finds_releases_made_meanwhile(workspace: Workspace, tmp_path: Path) -> None:
    here, git = tmp_path / "clone", Git(tmp_path)
    git("clone", "--quiet", str(tmp_path), str(here))
    clone = Workspace(here, workspace.commit, "main")
    git("commit", "--quiet", "--allow-empty", "--message=three")
    newer = git("rev-parse", "HEAD")
    await _release(workspace, newer, "v0.0.1", "Released")
    assert await read_history(clone, "local") == []
    assert not await is_older(clone, clone.commit, newer), "it cannot know yet"
    assert [entry.version for entry in await fetch_history.fn(clone, "local")] == ["v0.0.1"]
    assert await is_older(clone, clone.commit, newer)


_AT = datetime(2026, 11, 25, 22, 48, tzinfo=UTC)


def _history(story: str) -> list[Entry]:
    """Releases from a story: `a b <a` is a, then b, then a rollback to a."""
    words = enumerate(story.split())
    entries = [
        Entry(f"v{n}", word.strip("<") * 40, _AT, "-", "", "", rollback=word.startswith("<"))
        for n, word in words
    ]
    return entries[::-1]


@pytest.mark.parametrize(
    ("story", "remaining", "undone"),
    [
        ("", "", ""),
        ("a", "a", ""),
        ("a b", "ba", ""),
        ("a b <a", "a", "b"),
        ("a b c <b", "ba", "c"),
        ("a b c <b <a", "a", "bc"),
        ("a b c <a", "a", "bc"),
        ("a b <a c", "ca", "b"),
        ("a b <a b", "ba", ""),  # by force
        ("a b <a <b", "b", "a"),  # named
        ("a b <c", "ca", "b"),  # was never live
        ("a b b", "ba", ""),
        ("a b a", "aba", ""),  # by force
        ("<a", "a", ""),
    ],
)
def test_rollback_undoes_what_came_after(story: str, remaining: str, undone: str) -> None:
    entries = _history(story)
    assert "".join(entry.commit[0] for entry in not_rolled_back(entries)) == remaining
    commits = {entry.commit for entry in entries}
    assert {c for c in commits if rollback_of(entries, c)} == {c * 40 for c in undone}
    assert rollback_of(entries, "f" * 40) is None


def test_rollback_of_a_release_is_the_first_after_it() -> None:
    rollback = rollback_of(_history("a b <a c <a"), "b" * 40)
    assert rollback
    assert rollback.rollback_note == "it was rolled back to v2 at 2026-11-25 22:48 UTC"


def test_timeline_shows_what_was_rolled_back() -> None:
    lines = timeline(_history("a b <a"), ui="", forge=None).splitlines()[2:]
    assert [line.split("|")[4].strip() for line in lines] == [
        "live, by a rollback", "rolled back", "was live",
    ]  # fmt: skip


def test_timeline_shows_the_newest_as_live_and_links_runs() -> None:
    entries = [
        Entry("v0.0.2", "b" * 40, _AT, "wine@aaaaaaa", "approved | fine", "123"),
        Entry("v0.0.1", "a" * 40, _AT, "-", "", ""),
    ]
    lines = timeline(
        entries, ui="http://ui", forge=find_forge("git@github.com:me/wine.git")
    ).splitlines()
    link = f"[`bbbbbbb`](https://github.com/me/wine/commit/{'b' * 40})"
    assert lines[2] == (
        f"| 2026-11-25 22:48 UTC | **v0.0.2** | {link} | live | [run](http://ui/runs/flow-run/123)"
        " | approved \\| fine |"
    )
    assert "| v0.0.1 |" in lines[3]
    assert "| was live | - |" in lines[3]
    assert "Nothing was released" in timeline([], ui="", forge=None)


@pytest.mark.parametrize(
    "origin",
    [
        "https://github.com/me/wine",
        "https://github.com/me/wine.git",
        "https://me:secret@github.com/me/wine.git",
        "git@github.com:me/wine.git",
        "ssh://git@github.com/me/wine.git",
    ],
)
def test_commit_is_a_link_if_origin_has_pages(origin: str) -> None:
    assert commit_link(find_forge(origin), "a" * 40, short=True) == (
        f"[`aaaaaaa`](https://github.com/me/wine/commit/{'a' * 40})"
    )


@pytest.mark.parametrize("origin", ["/srv/origin.git", "file:///srv/origin.git", "../origin"])
def test_commit_of_a_local_origin_is_no_link(origin: str) -> None:
    assert commit_link(find_forge(origin), "a" * 40) == f"`{'a' * 40}`"
