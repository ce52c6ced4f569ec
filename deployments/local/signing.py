"""The key with which the local stack signs, and the signers that it allows."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from deployments.local.credentials import write_private
from tasks.core.settings import Settings
from tasks.package.statement import read_private_key
from tasks.repository import git


def key_file(home: Path) -> Path:
    """Return the file of a stack's key, which lies beside its other secrets."""
    return home / "secrets" / "signing-key"


def trust_folder(home: Path) -> Path:
    """Return the folder of the signers that a stack allows."""
    return home / "trust"


def prepare(home: Path) -> None:
    """Make the stack's key if there is none, and allow it, with the signers of the checkout."""
    file = key_file(home)
    if not file.exists():
        # Not Ed25519: OpenSSF's `model_signing verify key` takes keys of this kind.
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        write_private(file, private.decode())
    public = read_private_key(file).public_key()
    line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    trust = Settings(home=home, trust=trust_folder(home))
    others = Settings.model_fields["trust"].default / "allowed_signers"
    trust.trust.mkdir(exist_ok=True)
    draft = trust.allowed_signers.with_name(f".allowed_signers.{os.getpid()}")
    draft.write_text(
        f"{git.WORKER} {line} this stack\n{others.read_text() if others.is_file() else ''}"
    )
    draft.replace(trust.allowed_signers)
