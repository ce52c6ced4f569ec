"""The signature of a candidate, when it is pushed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.core import commands
from tasks.core.errors import ConfigurationError
from tasks.package.signature import compare, read_signatures, write_statement
from tasks.package.statement import PrivateKey, StatementError, read_private_key
from tasks.repository import git, git_signatures
from tasks.repository.signing_key import signing_key
from tasks.repository.workspace import Workspace
from tasks.runs.retrying import capability

# Files that people change without making the model anew. A worker signs them with a model that is
# as a worker has made it.
_AROUND = ("serving/", "model/custom/", "params.yaml")


async def sign_candidate(workspace: Workspace, verdict: Mapping[str, Any] | None) -> Workspace:
    """Sign the model of a candidate, unless it is signed as it is; commit the signature.

    A worker signs what a worker has made. What people have made by hand, they sign.

    Args:
        workspace: The workspace at the candidate.
        verdict: The gate's verdict; None if it was not asked.

    Returns:
        The workspace at the commit with the signature.
    """
    logger = commands.run_logger()
    if not (workspace.path / f"model/{workspace.model}.runtime.json").is_file():
        return workspace  # trained, not saved
    differences = await find_differences(workspace)
    if differences == {}:
        return workspace
    is_ours = await _is_automatic(workspace) or (
        differences is not None and all(path.startswith(_AROUND) for path in differences)
    )
    if not is_ours:
        logger.warning(
            "%s is not signed: it was made by hand; sign it with `slipway sign`", workspace.label
        )
        return workspace
    async with signing_key() as file:
        if file is None:
            logger.warning("%s is not signed: this worker has no key", workspace.label)
            return workspace
        await write_statement(workspace, read_key(file), verdict)
        await workspace.git(git.commit(f"Sign {workspace.model}", file))
    return replace(workspace, commit=await workspace.head())


@capability("check signing key", run_name="check the key of this worker", timeout=60)
async def require_key(branch: str) -> None:
    """Refuse, before anything is trained, to make a candidate that could not be merged.

    Args:
        branch: The branch that it is to be merged into.

    Raises:
        ConfigurationError: This worker has no key, or one that cannot sign models.
    """
    async with signing_key() as file:
        if file is None:
            raise ConfigurationError(
                f"this worker has no key to sign with, so its candidates do not get into {branch}",
                state="nothing was trained",
                next_step="set SLIPWAY_SIGNING_KEY and run `slipway apply`, see docs/security.md;"
                " or run train, save and push, which leave the candidate on a branch of its own",
            )
        read_key(file)


async def find_differences(workspace: Workspace) -> dict[str, str] | None:
    """Return what differs from the valid signature that fits best; None if there is none."""
    statements = [differences for _, differences in await _read_statements(workspace)]
    return min(statements, key=len, default=None)


async def find_signer(workspace: Workspace) -> str:
    """Return the name of who has signed the model as it is; empty if nobody has.

    If a worker has, it is the worker, whoever else has signed it.
    """
    names = [name for name, differences in await _read_statements(workspace) if not differences]
    return git.WORKER if git.WORKER in names else next(iter(names), "")


async def _read_statements(workspace: Workspace) -> list[tuple[str, dict[str, str]]]:
    """Return the signer of each valid signature, and what differs from it."""
    statements = []
    for text in await read_signatures(workspace):
        try:
            statement, differences = await compare(workspace, text)
            statements.append((statement.signer.name, differences))
        except StatementError as error:
            commands.run_logger().info("%s: %s", workspace.label, error)
    return statements


async def _is_automatic(workspace: Workspace) -> bool:
    graded = await workspace.git(git_signatures.grade(workspace.commit))
    grade, signer = (*graded.stdout.splitlines(), "", "")[:2]
    return git_signatures.is_of_worker(grade, signer)


def read_key(file: Path) -> PrivateKey:
    """Read the key of a worker.

    Raises:
        ConfigurationError: It cannot sign models.
    """
    try:
        return read_private_key(file)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"the worker's signing key cannot be used: {error}",
            state="nothing was pushed",
            next_step='make one with `ssh-keygen -t ecdsa -b 256 -N "" -f key`, set'
            " SLIPWAY_SIGNING_KEY to its text, and run `slipway apply`",
        ) from error
