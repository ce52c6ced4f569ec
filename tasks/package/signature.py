"""The signature of a model version: made when it is pushed, verified before anything unpickles it.

One statement covers the model file and its metadata, the metrics, the code that serves it and the
user's own, parameters, pipeline and data, and the provenance: commit, flow run, the gate's verdict.
It lies in Git beside the metadata, or is a note of a commit that was made before it was signed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect.runtime import flow_run

from tasks.core import commands
from tasks.core.errors import CandidateRejected, ConfigurationError
from tasks.core.fingerprint import file_digest
from tasks.core.settings import Settings
from tasks.package import statement
from tasks.package.package import Package, read_package
from tasks.package.statement import PrivateKey, Signer, Statement, StatementError
from tasks.repository import git, git_signatures
from tasks.repository.signing_key import signing_key
from tasks.repository.workspace import Workspace
from tasks.runs.retrying import capability

SIGNATURE, PROVENANCE, SIGNERS = ".sig", ".provenance.json", "signers.pem"
# Beside the files of the model: what serves it, what travels in it, what it was made from.
_COVERED = (
    "serving", "model/custom", "reports/metrics.json", "params.yaml", "dvc.yaml", "dvc.lock",
    "*.dvc",
)  # fmt: skip
_MADE_FROM = ("params.yaml", "dvc.lock", "*.dvc")
_FILE_MODES = {"100644", "100755"}


def signers() -> list[Signer]:
    """Return the signers that the deploying side allows."""
    file = Settings().allowed_signers
    return statement.read_signers(file.read_text()) if file.is_file() else []


async def read_digests(workspace: Workspace) -> dict[str, str]:
    """Return the SHA-256 of all that a signature of the model covers, by path.

    Raises:
        TerminalError: The commit has no saved model.
        StatementError: A path is no plain file.
    """
    package = read_package(workspace)
    stem = package.artifact
    metadata = [str(path.relative_to(workspace.path)) for path in package.files]
    digests = await _digests_of(workspace, [*metadata, f"{stem}{PROVENANCE}", *_COVERED])
    # `verify_artifact` compares the file, which comes from the bucket, with this digest.
    return digests | {stem: package.sha256}


async def _digests_of(workspace: Workspace, paths: list[str]) -> dict[str, str]:
    listed = (await workspace.git(git.tracked_modes(paths))).stdout
    digests = {}
    for entry in listed.split("\0")[:-1]:
        facts, _, path = entry.partition("\t")
        if facts.split()[0] not in _FILE_MODES or (workspace.path / path).is_symlink():
            raise StatementError(f"{path} is a link, which cannot be signed")
        try:
            digests[path] = file_digest(workspace.path / path, "sha256")
        except OSError as error:  # also a name that no terminal shows
            raise StatementError(f"{path} cannot be read: {error.strerror}") from error
    return digests


async def write_statement(
    workspace: Workspace, key: PrivateKey, verdict: Mapping[str, Any] | None
) -> None:
    """Sign what is in the workspace now, and stage signature and provenance.

    Args:
        workspace: The workspace, with all files of the model in Git's index.
        key: The key to sign with.
        verdict: The gate's verdict; None if it was not asked.
    """
    stem = f"model/{workspace.model}"
    provenance = {
        "format": 1,
        "model": workspace.model,
        "commit": await workspace.head(),
        "flow_run": flow_run.get_id() or None,
        "gate": verdict,
        "digests": await _digests_of(workspace, list(_MADE_FROM)),
    }
    (workspace.path / f"{stem}{PROVENANCE}").write_text(json.dumps(provenance, indent=2) + "\n")
    await workspace.git(git.add([f"{stem}{PROVENANCE}"]))
    bundle = statement.sign(workspace.model, await read_digests(workspace), key)
    (workspace.path / f"{stem}{SIGNATURE}").write_text(bundle)
    await workspace.git(git.add([f"{stem}{SIGNATURE}"]))


async def read_signatures(workspace: Workspace) -> list[str]:
    """Return the signatures of the model: of the workspace's files, and of the commit's note."""
    file = workspace.path / f"model/{workspace.model}{SIGNATURE}"
    beside = [file.read_text(errors="replace")] if file.is_file() else []
    note = await workspace.git(git_signatures.show_note(workspace.commit), ok=(0, 1))
    return [*beside, *([note.stdout] if note.code == 0 else [])]


async def compare(workspace: Workspace, signature: str) -> tuple[Statement, dict[str, str]]:
    """Return what a signature states, and a sentence on each file that is not as it states.

    Raises:
        StatementError: It is no valid signature of an allowed signer, or of another model.
    """
    signed = statement.verify(signature, signers())
    if signed.model != workspace.model:
        raise StatementError(f"the signature is of model {signed.model}")
    return signed, statement.differences(signed.digests, await read_digests(workspace))


@capability("verify signature", run_name="verify the signature of {package.label}", timeout=300)
async def verify_signature(package: Package, environment: str) -> Package:
    """Verify that an allowed signer has signed a model version as it is, before it is loaded.

    Args:
        package: The package of the commit.
        environment: Name of the environment that requires it.

    Returns:
        The package with its signature and the allowed keys, for its server to verify again.

    Raises:
        CandidateRejected: No signature is valid; says which check failed.
        ConfigurationError: This worker has no key to sign the tag of the release with.
    """
    async with signing_key() as key:
        if key is None:
            raise ConfigurationError(
                f"{environment} requires signatures, and this worker has no key to sign with",
                state="nothing was started",
                next_step="set SLIPWAY_SIGNING_KEY and run `slipway apply`, see docs/security.md",
            )
    faults = [] if (texts := await read_signatures(package.workspace)) else ["it is not signed"]
    for text in texts:
        try:
            signed, differences = await compare(package.workspace, text)
        except StatementError as error:
            faults.append(str(error))
            continue
        if not differences:
            commands.run_logger().info("%s: signed by %s", package.label, signed.signer.name)
            return replace(package, attachments=_attachments(package, text))
        faults += differences.values()
    raise CandidateRejected(
        f"{package.label} has no valid signature, which {environment} requires: {faults[0]}"
        f"{f' (and {len(faults) - 1} more)' if faults[1:] else ''}",
        state="it was not loaded; the live model is unchanged",
        next_step="run retrain at its branch, which signs what a worker has made; for a model of"
        " yours, `slipway sign`, commit and push",
    )


def _attachments(package: Package, signature: str) -> dict[str, bytes]:
    files = {
        f"{package.model}{SIGNATURE}": signature.encode(),
        SIGNERS: b"".join(signer.pem for signer in signers()),
    }
    provenance = Path(f"{package.workspace.path / package.artifact}{PROVENANCE}")
    return files | ({provenance.name: provenance.read_bytes()} if provenance.is_file() else {})
