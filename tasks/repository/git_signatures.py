"""Git commands that sign and verify, as argvs, and the settings by which Git does so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.core.commands import Argv
from tasks.repository.git import NOTES, WORKER

# Of a tag: its ref, its object and that object's own name for it, which is empty for a lightweight
# one; type and name of what it points at; time, message, and signature.
TAG_FIELDS = (
    "refname:strip=2", "objectname", "tag", "*objecttype", "*objectname",
    "creatordate:iso-strict", "contents:subject", "contents:body", "contents:signature",
)  # fmt: skip


def tags(pattern: str, commits: Sequence[str] = ()) -> Argv:
    """Print `TAG_FIELDS` of tags, highest number first, NUL-terminated.

    Args:
        pattern: Names of tags.
        commits: Only tags of these commits; all if there are none.
    """
    fields = "".join(f"%({field})%00" for field in TAG_FIELDS)
    at = [f"--points-at={commit}" for commit in commits]
    return ["git", "for-each-ref", "--sort=-version:refname", *at, f"--format={fields}",
            f"refs/tags/{pattern}"]  # fmt: skip


def signature_settings(allowed_signers: Path) -> dict[str, str]:
    """Return settings by which Git knows SSH signatures alone, and those signers alone.

    They have to be given as variables, because these win over the configuration of a clone, which
    code of a ref may have changed.
    """
    return {
        "gpg.format": "ssh",
        "gpg.ssh.program": "ssh-keygen",
        "gpg.ssh.allowedSignersFile": str(allowed_signers),
        # A key in the keyring of the worker's user is not an allowed signer.
        "gpg.program": "false",
        "gpg.openpgp.program": "false",
        "gpg.x509.program": "false",
    }


def make_tag(
    name: str, commit: str, message: str, key: Path | None, *, replace: bool = False
) -> Argv:
    """Make an annotated tag, signed if there is a key."""
    return ["git", "tag", *(["--force"] if replace else []),
            *(["--sign", f"--local-user={key}"] if key else ["--annotate"]),
            "--cleanup=whitespace", "--message", message, name, commit]  # fmt: skip


def verify_tags(identifiers: Sequence[str]) -> Argv:
    """Print those of some tag objects that an allowed signer has signed."""
    return ["git", "verify-tag", "--format=%(objectname)", *identifiers]


def grade(commit: str) -> Argv:
    """Print the grade of a commit's signature, and its signer."""
    return ["git", "show", "--no-patch", "--format=%G?%n%GS", commit]


def is_of_worker(graded: str, signer: str) -> bool:
    """Return whether a commit with this grade and signer was made by a worker.

    Args:
        graded: The grade, Git's `%G?`: G for a valid signature of an allowed signer.
        signer: The signer, Git's `%GS`: the name that `allowed_signers` has for the key.
    """
    return (graded, signer) == ("G", WORKER)


def show_note(commit: str) -> Argv:
    """Print the signature that a commit was given later; exits with code 1 if there is none."""
    return ["git", "notes", f"--ref={NOTES}", "show", commit]


def add_note(commit: str, file: Path) -> Argv:
    """Give a commit a signature, instead of one that it was given before."""
    return ["git", "notes", f"--ref={NOTES}", "add", "--force", f"--file={file}", commit]
