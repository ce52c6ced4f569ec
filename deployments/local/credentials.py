"""The secrets of a local stack: made once, in files that only their owner can read."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deployments.catalogue.block_variables import S3Identity


def _secret() -> str:
    return secrets.token_hex(20)


def _login() -> str:
    return f"slipway:{_secret()}"


def _identity() -> S3Identity:
    return S3Identity(secrets.token_hex(10), _secret())


@dataclass(frozen=True)
class Credentials:
    """Every secret of one stack.

    Attributes:
        read_write: Identity that pushes models.
        read: Identity that pulls them when deploying.
        put: Identity that ships prediction logs, and can do nothing else.
        supervisor: Password of the process runner.
        signing: Key with which the parts of the S3 server trust each other.
        database: Password of PostgreSQL.
        prefect: `user:password` of the Prefect API.
        stack: Marks the processes of this stack; not a secret, but as unique.
    """

    read_write: S3Identity = field(default_factory=_identity)
    read: S3Identity = field(default_factory=_identity)
    put: S3Identity = field(default_factory=_identity)
    supervisor: str = field(default_factory=_secret, repr=False)
    signing: str = field(default_factory=_secret, repr=False)
    database: str = field(default_factory=_secret, repr=False)
    prefect: str = field(default_factory=_login, repr=False)
    stack: str = field(default_factory=_secret)


_IDENTITIES = {"read_write", "read", "put"}


def load(folder: Path) -> Credentials:
    """Read a stack's secrets, or make them.

    Args:
        folder: Folder of their file.

    Returns:
        The same secrets for the same folder, always.
    """
    path = folder / "credentials.json"
    if path.exists():
        values = json.loads(path.read_text())
        for name in values.keys() & _IDENTITIES:
            values[name] = S3Identity(**values[name])
        credentials = Credentials(**values)
        if values.keys() == asdict(credentials).keys():
            return credentials
        # A version that needed fewer secrets made the file.
    else:
        credentials = Credentials()
    write_private(path, json.dumps(asdict(credentials), indent=2))
    return credentials


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
