"""Git commands as argvs, what their output means, and a way to run them outside of flows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tasks.core.commands import Argv, CommandResult, run_blocking
from tasks.core.errors import TerminalError

# Candidates that no flow has pushed yet: not branches, so nothing on origin builds or deploys them.
RUN_REFS = "refs/slipway/runs"
# Signatures of models whose commits were made before they were signed.
NOTES = "refs/notes/slipway"
_FETCHED = [
    "+refs/heads/*:refs/remotes/origin/*", f"+{RUN_REFS}/*:{RUN_REFS}/*", f"+{NOTES}*:{NOTES}*"
]  # fmt: skip
IDENTITY = {
    "GIT_AUTHOR_NAME": "Slipway",
    "GIT_AUTHOR_EMAIL": "slipway@localhost",
    "GIT_COMMITTER_NAME": "Slipway",
    "GIT_COMMITTER_EMAIL": "slipway@localhost",
}
VARIABLES = {**IDENTITY, "GIT_TERMINAL_PROMPT": "0"}
# The name under which `allowed_signers` has the keys of workers; people have names of their own.
WORKER = IDENTITY["GIT_COMMITTER_EMAIL"]
# What no Git configuration of the host may change: a key to sign with that asks for a passphrase,
# hooks, line ends that differ from what was hashed, ignored files that belong to the candidate,
# signatures between the lines of a log.
_SETTINGS = {
    "commit.gpgSign": "false",
    "tag.gpgSign": "false",
    "push.gpgSign": "false",
    "core.hooksPath": "/dev/null",
    "core.autocrlf": "false",
    "core.safecrlf": "false",
    "core.excludesFile": "/dev/null",
    "core.attributesFile": "/dev/null",
    "log.showSignature": "false",
}
# `!`, a refspec, then "[rejected]" if Git sent nothing or "[remote rejected]" if origin refused.
_REFUSED = re.compile(r"^!\t[^\t]*:([^\t:]+)\t\[(remote )?rejected\]", re.MULTILINE)
_SECONDS = 300.0


# Where a clone has the patterns of the files to check out, and those for all that a release reads.
# To write a file takes much longer than to know it, and 690 of the template's 890 are Slipway's.
SPARSE_FILE = Path(".git", "info", "sparse-checkout")
_UNREAD = ("benchmarks", "deployments", "flows", "tasks", "tests/code", "tests/stand_ins")
SPARSE = "".join(["/*\n", "!/docs/**/*.md\n", *(f"!/{folder}/**/*.py\n" for folder in _UNREAD)])


def _settings(*keys: str) -> Argv:
    return [word for key in keys for word in ("-c", f"{key}={_SETTINGS[key]}")]


def clone(origin: str, path: Path, *, whole: bool = True) -> Argv:
    """Clone without a working tree; the clone keeps the settings that flows rely on.

    They are settings of the clone, not of one command, so that DVC, which does not run the Git
    program, heeds them too.

    Args:
        origin: URL of the repository.
        path: Folder of the clone.
        whole: Whether to check every file out, or to leave out what `SPARSE_FILE` names.
    """
    sparse = [] if whole else ["-c", "core.sparseCheckout=true"]
    # Branches by themselves; clones take all tags.
    refs = [word for spec in _FETCHED[1:] for word in ("-c", f"remote.origin.fetch={spec}")]
    return ["git", "clone", "--quiet", "--no-checkout", "--origin=origin", "--template=",
            *_settings(*_SETTINGS), *refs, *sparse, origin, str(path)]  # fmt: skip


def fetch() -> Argv:
    """Fetch every branch, tag and candidate."""
    return ["git", "fetch", "--quiet", "--force", "--tags", "origin", *_FETCHED]


def resolve(ref: str) -> Argv:
    """Print the commit of a ref; fails silently if there is none."""
    return ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"]


def checkout(commit: str) -> Argv:
    """Check a commit out, without a branch."""
    return ["git", "checkout", "--quiet", "--detach", commit]


def reread() -> Argv:
    """Drop the file times that Git remembers, so that it reads every file again.

    DVC stages files without Git's care for files changed in the second in which they were checked
    out: Git would take one of the same size for unchanged.
    """
    return ["git", "read-tree", "HEAD"]


def add_all() -> Argv:
    """Stage every change that is not ignored."""
    return ["git", "add", "--all"]


def list_all_changes() -> Argv:
    """Print what differs from HEAD, also what is new or ignored; nothing for a fresh checkout."""
    return ["git", "status", "--porcelain", "--ignored", "--ignore-submodules=all"]


def commit(message: str, key: Path | None) -> Argv:
    """Commit what is staged, signed if there is a key."""
    return ["git", "commit", "--quiet", "--no-verify", "--message", message,
            *([f"--gpg-sign={key}"] if key else [])]  # fmt: skip


def add(paths: Sequence[str]) -> Argv:
    """Stage some files."""
    return ["git", "add", "--", *paths]


def tracked_modes(paths: Sequence[str]) -> Argv:
    """Print mode, object and path of files in Git's index, NUL-terminated."""
    return ["git", "ls-files", "-z", "--stage", "--", *paths]


def staged() -> Argv:
    """Exit with code 1 if anything is staged."""
    return ["git", "diff", "--cached", "--quiet"]


def staged_paths() -> Argv:
    """Print the paths of what is staged, NUL-terminated."""
    return ["git", "diff", "--cached", "--name-only", "--no-renames", "-z"]


def push(refspecs: Sequence[str]) -> Argv:
    """Push all refs or none of them; `refused_refs` reads the output."""
    return ["git", "push", "--quiet", "--porcelain", "--atomic", "origin", *refspecs]


def refused_refs(output: str) -> dict[str, bool]:
    """Return the refs that a push did not update, and whether origin was the one who refused.

    Args:
        output: Standard output of `push`.

    Returns:
        True for a ref that origin refused; False for one that Git did not send, because origin's
        has changed since the last fetch.
    """
    return {ref: bool(by_origin) for ref, by_origin in _REFUSED.findall(output)}


def list_refs(refs: Sequence[str]) -> Argv:
    """Print commit and name of those refs that origin has."""
    return ["git", "ls-remote", "--quiet", "origin", *refs]


def list_branches(origin: str) -> Argv:
    """Print the branches of a repository, without a clone of it."""
    return ["git", "ls-remote", "--quiet", "--heads", origin]


def fetch_only(origin: str, commit: str) -> Argv:
    """Fetch a commit of a repository, without its files."""
    return ["git", "fetch", "--quiet", "--depth=1", "--filter=tree:0", origin, commit]


def init_bare() -> Argv:
    """Make the current folder a repository without a working tree."""
    return ["git", "init", "--quiet", "--bare"]


def try_push(origin: str, branch: str) -> Argv:
    """Check that a repository would accept HEAD as a branch, without pushing it."""
    return ["git", "push", "--quiet", "--dry-run", origin, f"HEAD:refs/heads/{branch}"]


def is_ancestor(older: str, newer: str) -> Argv:
    """Exit with code 0 if `newer` contains `older`."""
    return ["git", "merge-base", "--is-ancestor", older, newer]


def merge_base(first: str, other: str) -> Argv:
    """Print the newest commit that both contain."""
    return ["git", "merge-base", first, other]


def log_since(base: str, tip: str, paths: Sequence[str]) -> Argv:
    """Print time, grade of signature, signer and subject of commits, NUL-terminated.

    They are those in `base..tip` that touch `paths`, merges too: one may have content of its own.
    """
    return ["git", "log", "-z", "--format=%ct%n%G?%n%GS%n%s", f"{base}..{tip}",
            *(["--", *paths] if paths else [])]  # fmt: skip


def commit_time(commit: str) -> Argv:
    """Print the committer time, in seconds since the epoch."""
    return ["git", "show", "--no-patch", "--format=%ct", commit]


def last_change(paths: Sequence[str]) -> Argv:
    """Print the day of the newest commit that changed one of the paths, such as 2026-11-30."""
    return ["git", "log", "-1", "--format=%cs", "HEAD", "--", *paths]


def merge_ours(commit: str) -> Argv:
    """Start a merge that keeps our tree as it is."""
    return ["git", "merge", "--quiet", "--no-commit", "--no-ff", "--strategy=ours", commit]


def take(commit: str, paths: Sequence[str]) -> Argv:
    """Make `paths` exactly as they are in `commit`, deletions included."""
    return ["git", "restore", f"--source={commit}", "--staged", "--worktree", "--", *paths]


def show(commit: str, path: str) -> Argv:
    """Print a file of a commit."""
    return ["git", "show", f"{commit}:{path}"]


def tracked_files() -> Argv:
    """Print the paths of all files in Git, NUL-terminated."""
    return ["git", "ls-files", "-z"]


def refs_at(commit: str, pattern: str) -> Argv:
    """Print the full names of the refs below a pattern that point at a commit."""
    return ["git", "for-each-ref", f"--points-at={commit}", "--format=%(refname)", pattern]


def refs(pattern: str) -> Argv:
    """Print the full names of the refs that match a pattern."""
    return ["git", "for-each-ref", "--format=%(refname)", pattern]


def branches_with(commit: str) -> Argv:
    """Print the full names, in the clone, of origin's branches that contain a commit."""
    return ["git", "for-each-ref", f"--contains={commit}", "--format=%(refname)",
            remote_head("")]  # fmt: skip


def names(*places: str) -> Argv:
    """Print the short names of the refs in some places, newest first."""
    return ["git", "for-each-ref", "--sort=-creatordate", "--format=%(refname:short)", *places]


def delete_tag(name: str) -> Argv:
    """Delete a tag of the clone."""
    return ["git", "tag", "--delete", name]


def remote_head(branch: str) -> str:
    """Return the clone's name for a branch of origin."""
    return f"refs/remotes/origin/{branch}"


def tracking_ref(ref: str) -> str:
    """Return the clone's name for a branch or candidate of origin, from its full name there."""
    branch = ref.removeprefix("refs/heads/")
    return remote_head(branch) if branch != ref else ref


def compare(commit: str, paths: Sequence[str]) -> Argv:
    """Exit with code 1 if the working tree has other files below the paths than a commit."""
    return ["git", "diff", "--quiet", commit, "--", *paths]


def top_level(commit: str) -> Argv:
    """Print the names at the top of a commit's tree, NUL-terminated."""
    return ["git", "ls-tree", "-z", "--name-only", commit]


class Git:
    """Git in one folder, for programs that are no flows.

    It ignores the Git variables of its caller, such as those of a hook that started it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, *arguments: str) -> CommandResult:
        """Run a Git command; the caller judges its exit code."""
        # Without optional locks `git status` does not write to the index of the checkout. Line ends
        # and ignored files are those of the user, whose checkout it may be.
        settings = _settings("commit.gpgSign", "core.hooksPath")
        argv = ["git", "--no-optional-locks", *settings, *arguments]
        return run_blocking(argv, timeout=_SECONDS, cwd=self._folder, env=VARIABLES, hide=("GIT_",))

    def __call__(self, *arguments: str) -> str:
        """Run a Git command that has to succeed, and return its output without blanks around it.

        Raises:
            TerminalError: It failed.
        """
        result = self.run(*arguments)
        if result.code:
            raise TerminalError(
                f"git {' '.join(arguments)} failed in {self._folder}: {result.stderr.strip()}",
                state="the checkout is unchanged",
                next_step="correct what Git reports, and run the same command again",
            )
        return result.stdout.strip()
