"""Signatures of people: of a model that was made by hand, and of the history before signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.exceptions import UnsupportedAlgorithm

from tasks.core.errors import ConfigurationError, TerminalError
from tasks.core.settings import Settings
from tasks.package.signature import read_digests, write_statement
from tasks.package.statement import PrivateKey, StatementError, read_private_key, sign
from tasks.repository import git, git_signatures
from tasks.repository.git import Git
from tasks.repository.git_variables import run_git
from tasks.repository.tags import Tag, read_tags
from tasks.repository.workspace import Workspace, move_workspace, push
from tasks.training.signing import find_differences

_SECONDS = 300.0
_STATE = "nothing was signed"


def open_key(file: Path, ask: Callable[[], str]) -> PrivateKey:
    """Read a private key; ask for its passphrase if it has one.

    Raises:
        ConfigurationError: The file has no key that signs models.
    """
    try:
        try:
            return read_private_key(file)
        except TypeError:  # there is a passphrase
            return read_private_key(file, ask())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"{file} cannot be used to sign: {error}",
            state=_STATE,
            next_step="make a key with `ssh-keygen -t ecdsa -b 256 -f key`, and name it by `--key`",
        ) from error


async def sign_checkout(checkout: Path, key: PrivateKey) -> str:
    """Sign the model of a checkout as its files are; return the path of the signature.

    Raises:
        TerminalError: The checkout has no saved model, or a link that cannot be signed.
    """
    workspace = Workspace(checkout, Git(checkout)("rev-parse", "HEAD"), "HEAD")
    try:
        await write_statement(workspace, key, None)
    except StatementError as error:
        raise TerminalError(
            f"the model cannot be signed: {error}",
            state=_STATE,
            next_step="replace the link by its file, then sign again",
        ) from error
    return f"model/{workspace.model}.sig"


async def sign_history(origin: str, key_file: Path, key: PrivateKey, *, confirmed: bool) -> str:
    """Sign the releases of a repository that no allowed signer has signed: tags and models.

    Args:
        origin: The repository.
        key_file: File of the key.
        key: The same key.
        confirmed: False only reports what would be signed.

    Returns:
        A sentence on what was done.

    Raises:
        TerminalError: Somebody else has pushed tags meanwhile.
    """
    with TemporaryDirectory() as folder:
        workspace = await _clone(origin, Path(folder) / "clone")
        tags = await _unsigned_tags(workspace)
        models = await _unsigned_models(workspace, tags)
        if not (tags or models):
            return "all releases are signed"
        names = ", ".join([tag.name for tag in tags] + [f"model of {c[:7]}" for c in models])
        if not confirmed:
            return f"not signed: {names}. To sign all of it: slipway sign --history --yes"
        for tag in tags:
            await _sign_tag(workspace, tag, key_file)
        for commit in models:
            there = await move_workspace(workspace, commit)
            note = Path(folder) / "note"
            note.write_text(sign(there.model, await read_digests(there), key))
            await there.git(git_signatures.add_note(commit, note))
        refs = [f"+refs/tags/{tag.name}" for tag in tags] + ([git.NOTES] if models else [])
        if not await push(workspace, refs):
            raise TerminalError(
                "somebody else has pushed signatures at the same time",
                state="origin is unchanged",
                next_step="run `slipway sign --history` again",
            )
        return f"signed: {names}"


async def _clone(origin: str, path: Path) -> Workspace:
    result = await run_git(git.clone(origin, path), timeout=_SECONDS, cwd=path.parent)
    if result.code:
        raise TerminalError(
            f"cannot clone {origin}: {result.tail()}",
            state=_STATE,
            next_step="set SLIPWAY_ORIGIN to the repository that workers clone",
        )
    workspace = Workspace(path, Git(path)("rev-parse", "HEAD"), "HEAD")
    await workspace.git(git.fetch())
    return await move_workspace(workspace, workspace.commit)


async def _unsigned_tags(workspace: Workspace) -> list[Tag]:
    strict = replace(workspace, signed_tags=True)
    patterns = (f"{workspace.model}@v*", f"{workspace.model}#*")
    tags = [tag for pattern in patterns for tag in await read_tags(workspace, pattern)]
    signed = [tag for pattern in patterns for tag in await read_tags(strict, pattern)]
    return [tag for tag in tags if tag not in signed]


async def _unsigned_models(workspace: Workspace, tags: Sequence[Tag]) -> list[str]:
    """Return the commits of all versions whose model has no valid signature."""
    commits = []
    versions = await read_tags(workspace, f"{workspace.model}@v*")
    for commit in dict.fromkeys(tag.commit for tag in versions):
        there = await move_workspace(workspace, commit)
        if await find_differences(there) != {}:
            commits.append(commit)
    return commits


async def _sign_tag(workspace: Workspace, tag: Tag, key_file: Path) -> None:
    """Sign a tag; it stays as old as it is."""
    settings = git_signatures.signature_settings(Settings().allowed_signers)
    result = await run_git(
        git_signatures.make_tag(tag.name, tag.commit, tag.message, key_file, replace=True),
        timeout=_SECONDS,
        cwd=workspace.path,
        settings=settings,
        date=tag.at,
    )
    if result.code:
        raise TerminalError(
            f"Git cannot sign {tag.name}: {result.tail()}",
            state="origin is unchanged",
            next_step="correct what OpenSSH reports, then run the same command again",
        )
