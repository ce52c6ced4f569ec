"""Git commands, as argvs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.core.commands import Argv

# Candidates under way: not branches, so nothing on origin lists, builds or deploys them.
RUN_REFS = "refs/slipway/runs"
_FETCHED = ["+refs/heads/*:refs/remotes/origin/*", f"+{RUN_REFS}/*:{RUN_REFS}/*"]


def clone(origin: str, path: Path) -> Argv:
    """Clone without a working tree."""
    return ["git", "clone", "--quiet", "--no-checkout", origin, str(path)]


def fetch() -> Argv:
    """Fetch every branch, tag and candidate under way."""
    return ["git", "fetch", "--quiet", "--force", "--tags", "origin", *_FETCHED]


def resolve(ref: str) -> Argv:
    """The commit that a ref stands for; fails silently where there is none."""
    return ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"]


def checkout(commit: str) -> Argv:
    """Check a commit out, on no branch."""
    return ["git", "checkout", "--quiet", "--detach", commit]


def reread() -> Argv:
    """Forget what Git remembers of the files' times, so that every file is read again.

    DVC stages files without Git's care for files changed in the second in which they were checked
    out: one of the same size would be taken for unchanged.
    """
    return ["git", "read-tree", "HEAD"]


def add_all() -> Argv:
    """Stage every change that is not ignored."""
    return ["git", "add", "--all"]


def commit(message: str) -> Argv:
    """Commit what is staged."""
    return ["git", "commit", "--quiet", "--no-verify", "--message", message]


def staged() -> Argv:
    """Exit code 1 if anything is staged."""
    return ["git", "diff", "--cached", "--quiet"]


def push(refspecs: Sequence[str]) -> Argv:
    """Push all refs or none of them."""
    return ["git", "push", "--quiet", "--atomic", "origin", *refspecs]


def list_branches(origin: str) -> Argv:
    """The branches of a repository that there need not be a clone of."""
    return ["git", "ls-remote", "--quiet", "--heads", origin]


def fetch_only(origin: str, commit: str) -> Argv:
    """Fetch a commit of a repository, and nothing of what it holds."""
    return ["git", "fetch", "--quiet", "--depth=1", "--filter=tree:0", origin, commit]


def init_bare() -> Argv:
    """Make the current folder a repository without a working tree."""
    return ["git", "init", "--quiet", "--bare"]


def try_push(origin: str, branch: str) -> Argv:
    """Ask a repository whether it would take HEAD as a branch; it does not."""
    return ["git", "push", "--quiet", "--dry-run", origin, f"HEAD:refs/heads/{branch}"]


def is_ancestor(older: str, newer: str) -> Argv:
    """Exit code 0 if `newer` contains `older`."""
    return ["git", "merge-base", "--is-ancestor", older, newer]


def merge_base(one: str, other: str) -> Argv:
    """The commit from which both come."""
    return ["git", "merge-base", one, other]


def log_since(base: str, tip: str, paths: Sequence[str]) -> Argv:
    """Time and message of every commit in `base..tip` touching `paths`, each ended by a NUL."""
    return ["git", "log", "-z", "--no-merges", "--format=%ct%n%B", f"{base}..{tip}",
            *(["--", *paths] if paths else [])]  # fmt: skip


def commit_time(commit: str) -> Argv:
    """Committer time in seconds since the epoch."""
    return ["git", "show", "--no-patch", "--format=%ct", commit]


def merge_ours(commit: str) -> Argv:
    """Start a merge that keeps our tree as it is."""
    return ["git", "merge", "--quiet", "--no-commit", "--no-ff", "--strategy=ours", commit]


def take(commit: str, paths: Sequence[str]) -> Argv:
    """Make `paths` exactly as they are in `commit`, deletions included."""
    return ["git", "restore", f"--source={commit}", "--staged", "--worktree", "--", *paths]


def show(commit: str, path: str) -> Argv:
    """A file as it is in a commit."""
    return ["git", "show", f"{commit}:{path}"]


def tracked_files() -> Argv:
    """Paths of all files in Git, each ended by a NUL."""
    return ["git", "ls-files", "-z"]


def refs_at(commit: str, pattern: str) -> Argv:
    """Full names of the refs below a pattern that point at a commit."""
    return ["git", "for-each-ref", f"--points-at={commit}", "--format=%(refname)", pattern]


def refs(pattern: str) -> Argv:
    """Full names of the refs that match a pattern."""
    return ["git", "for-each-ref", "--format=%(refname)", pattern]


def names(*places: str) -> Argv:
    """Short names of the refs in some places, the newest first."""
    return ["git", "for-each-ref", "--sort=-creatordate", "--format=%(refname:short)", *places]


def delete_tag(name: str) -> Argv:
    """Delete a tag of the clone."""
    return ["git", "tag", "--delete", name]


def remote_head(branch: str) -> str:
    """Name in the clone of a branch of origin."""
    return f"refs/remotes/origin/{branch}"


def top_level(commit: str) -> Argv:
    """Names at the top of a commit's tree, each ended by a NUL."""
    return ["git", "ls-tree", "-z", "--name-only", commit]


def annotated(pattern: str, count: int) -> Argv:
    """Commit, time and message of annotated tags, highest number first, each ended by a NUL."""
    fields = "%(*objectname)%00%(creatordate:iso-strict)"
    return ["git", "for-each-ref", "--sort=-version:refname", f"--count={count}",
            f"--format={fields}%00%(contents)%00", f"refs/tags/{pattern}"]  # fmt: skip


def newest_tag(pattern: str) -> Argv:
    """Commit of the annotated tag with the highest number at its end."""
    return ["git", "for-each-ref", "--sort=-version:refname", "--count=1",
            "--format=%(*objectname)", f"refs/tags/{pattern}"]  # fmt: skip
