"""The bare Git repository that plays origin, so that the user's own checkout is never changed."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from pathlib import Path

from tasks.core.errors import ConfigurationError, TerminalError
from tasks.repository.git import Git

# What flows commit. On both sides, files of one training must come from one side.
_OUTPUTS = (
    "dvc.lock",
    "model/*.golden.json",
    "model/*.mlem",
    "model/*.provenance.json",
    "model/*.runtime.json",
    "model/*.sig",
    "reports",
)
_MAIN = "refs/heads/main"
_INCOMING = "refs/slipway/checkout"
_HOOK = """\
#!/bin/sh
# Written by `make up`. Plays the CI: a push to main that GitHub or GitLab would deploy requests a
# deploy. In the background and without the pusher's variables, so that the push neither
# waits nor fails; `make down` ends it.
while read -r old new ref; do
  [ "$ref" = {main} ] || continue
  (cd {checkout} && exec env -i PATH="$PATH" HOME="$HOME" {marker} \\
    {python} -m deployments.local.post_receive --home {home} "$old" "$new") \\
    </dev/null >>{log} 2>&1 &
done
"""


def bring_up_to_date(origin: Path, checkout: Path) -> list[str]:
    """Create origin from the checkout's committed HEAD, or merge newer commits into its main.

    Args:
        origin: The bare repository.
        checkout: The user's checkout; only read.

    Returns:
        Lines for the user: the commits that were merged, and changes that were not committed.

    Raises:
        ConfigurationError: The checkout has no commit.
        TerminalError: Origin's main has other commits, and those of the checkout do not merge.
    """
    notes = []
    checkout_git = Git(checkout)
    if checkout_git.run("rev-parse", "--verify", "--quiet", "HEAD").code:
        raise ConfigurationError(
            f"{checkout} has no commit to start from",
            state="nothing was started",
            next_step="git add --all && git commit --message 'Start'",
        )
    if checkout_git("status", "--porcelain"):
        notes.append("uncommitted changes in the checkout are not part of what runs; commit them")
    if not origin.exists():
        _create(origin)
    git = Git(origin)
    fetched = f"+HEAD:{_INCOMING}"
    git("fetch", "--quiet", "--no-tags", "--update-shallow", str(checkout.resolve()), fetched)
    incoming = git("rev-parse", _INCOMING)
    main = git.run("rev-parse", "--verify", "--quiet", _MAIN).stdout.strip()
    if main and not git.run("merge-base", "--is-ancestor", incoming, main).code:
        return notes
    if not main or not git.run("merge-base", "--is-ancestor", main, incoming).code:
        git("update-ref", _MAIN, incoming, main)
        merged = incoming
    else:
        merged = _merge(git, origin, main, incoming)
    if main:
        notes.append(f"origin's main now has the checkout's {incoming[:8]} (was {main[:8]})")
        if merged != incoming:
            notes[-1] += f", merged as {merged[:8]}"
    return notes


def deploy_on_push(origin: Path, checkout: Path, *, home: Path, marker: str, log: Path) -> None:
    """Make every push to main that the CI would deploy request a deploy from the local stack.

    Args:
        origin: The bare repository.
        checkout: Where this package is.
        home: The folder of the stack.
        marker: `NAME=value` by which the stack knows its processes.
        log: File for a line on each push.
    """
    values = {
        "main": _MAIN,
        "checkout": checkout,
        "marker": marker,
        "python": sys.executable,
        "home": home,
        "log": log,
    }
    text = _HOOK.format(**{name: shlex.quote(str(value)) for name, value in values.items()})
    hook = _hook(origin)
    hook.parent.mkdir(exist_ok=True)
    draft = hook.with_suffix(".draft")
    draft.write_text(text)
    draft.chmod(0o700)
    draft.replace(hook)
    # A push to a folder runs with the pusher's settings: hooks of all their repositories would
    # take the place of this one.
    Git(origin)("config", "core.hooksPath", hook.parent.name)


def ignore_pushes(origin: Path) -> None:
    """Make pushes deploy nothing."""
    _hook(origin).unlink(missing_ok=True)


def _hook(origin: Path) -> Path:
    return origin / "hooks" / "post-receive"


def _create(origin: Path) -> None:
    origin.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=origin.parent) as folder:
        draft = Path(folder) / "origin.git"
        Git(origin.parent)("init", "--quiet", "--bare", "--initial-branch=main", str(draft))
        # A rename, so that a killed start leaves no half of a repository behind.
        shutil.move(draft, origin)


def _merge(git: Git, origin: Path, main: str, incoming: str) -> str:
    """Merge the checkout into main; the checkout wins, except in files that flows commit."""
    with tempfile.TemporaryDirectory(dir=origin.parent) as folder:
        clone = Path(folder) / "merge"
        git("clone", "--quiet", "--shared", "--branch=main", str(origin), str(clone))
        merge = Git(clone)
        merge("fetch", "--quiet", "origin", _INCOMING)
        message = "--message=Merge the checkout"
        result = merge.run("merge", "--quiet", "--no-commit", "--strategy-option=theirs", incoming)
        outputs = merge("ls-files", "--with-tree=HEAD", "--", *_OUTPUTS).splitlines()
        in_main = outputs and merge("ls-tree", "-r", "--name-only", "HEAD", "--", *outputs)
        if in_main:
            merge("checkout", "--quiet", "HEAD", "--", *in_main.splitlines())
        unmerged = merge("diff", "--name-only", "--diff-filter=U").split()
        if unmerged or (result.code and not (clone / ".git" / "MERGE_HEAD").exists()):
            raise TerminalError(
                "the commits of the checkout do not merge into origin's main: "
                f"{', '.join(unmerged) or result.stderr.strip()}",
                state="origin's main is as it was",
                next_step=f"git clone {origin}, merge {incoming[:8]} there by hand, git push",
            )
        merge("commit", "--quiet", "--no-verify", message)
        # A fetch, not a push: the hook would deploy what a push brings.
        git("fetch", "--quiet", str(clone), f"HEAD:{_MAIN}")
        return merge("rev-parse", "HEAD")
