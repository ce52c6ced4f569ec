"""The Prefect blocks that hold secrets, and the variables that they are created from.

`slipway apply` saves them on the server. Of the bucket: `SLIPWAY_S3_BUCKET`,
`_READ_WRITE_KEY_ID`, `_READ_WRITE_SECRET`, `_READ_KEY_ID`, `_READ_SECRET`, and if it is not AWS, or
not us-east-1: `_ENDPOINT_URL`, `_REGION`. Of a container of Azure (`SLIPWAY_STORE=azure`):
`SLIPWAY_AZURE_CONTAINER`, and `_ACCOUNT_URL` for identities without keys, or
`_READ_WRITE_CONNECTION_STRING` and `_READ_CONNECTION_STRING`. Of the rest: see
`tasks.core.secret_blocks` and `NOTIFY`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.core.errors import ConfigurationError
from tasks.core.secret_blocks import SECRETS, variable

READ_WRITE = "slipway-read-write"
READ = "slipway-read"
RESULTS = "slipway-results"
NAMES = frozenset({READ_WRITE, READ, RESULTS})
DVC_FOLDER = "dvc"
PREFIX = "SLIPWAY_S3_"
AZURE_PREFIX = "SLIPWAY_AZURE_"
PREFIXES = (PREFIX, AZURE_PREFIX)

# The block by which automations notify: of any type, made in the UI, or from a webhook's URL.
NOTIFY = "slipway-notify"
NOTIFY_VARIABLE = "SLIPWAY_NOTIFY_URL"

_NEEDED = ("BUCKET", "READ_WRITE_KEY_ID", "READ_WRITE_SECRET", "READ_KEY_ID", "READ_SECRET")


@dataclass(frozen=True)
class S3Identity:
    """An access key of an S3 server and its secret."""

    key_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class ObjectStorage:
    """A bucket and its two identities, on any S3 server.

    Attributes:
        bucket: Name of the bucket.
        read_write: Identity that pushes models and stores results.
        read: Identity that pulls models when deploying.
        endpoint_url: URL of the S3 server; None is AWS.
    """

    bucket: str
    read_write: S3Identity
    read: S3Identity
    endpoint_url: str | None = None
    region: str = "us-east-1"

    def to_environment(self) -> dict[str, str]:
        """Return it as variables for another process: every user can read an argv."""
        values = {
            "BUCKET": self.bucket,
            "REGION": self.region,
            "ENDPOINT_URL": self.endpoint_url or "",
            "READ_WRITE_KEY_ID": self.read_write.key_id,
            "READ_WRITE_SECRET": self.read_write.secret,
            "READ_KEY_ID": self.read.key_id,
            "READ_SECRET": self.read.secret,
        }
        return {PREFIX + key: value for key, value in values.items()}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ObjectStorage:
        """Read it from variables `SLIPWAY_S3_*`.

        Raises:
            ConfigurationError: Variables are missing; names them.
        """
        values = {key: environment.get(PREFIX + key, "") for key in _NEEDED}
        if missing := [PREFIX + key for key, value in values.items() if not value]:
            raise ConfigurationError(
                f"not set: {', '.join(missing)}",
                state="nothing was changed",
                next_step=f"export {missing[0]}=…, or write it into .env",
            )
        return cls(
            bucket=values["BUCKET"],
            read_write=S3Identity(values["READ_WRITE_KEY_ID"], values["READ_WRITE_SECRET"]),
            read=S3Identity(values["READ_KEY_ID"], values["READ_SECRET"]),
            endpoint_url=environment.get(PREFIX + "ENDPOINT_URL") or None,
            region=environment.get(PREFIX + "REGION") or "us-east-1",
        )

    @classmethod
    def is_in(cls, environment: Mapping[str, str]) -> bool:
        """Return whether any of its variables is set."""
        return any(environment.get(PREFIX + key) for key in _NEEDED)


@dataclass(frozen=True)
class AzureStorage:
    """A container of Azure Blob Storage, and its two identities or none.

    Attributes:
        container: Name of the container.
        account_url: URL of the account, if workers are identities of Azure themselves.
        read_write: Connection string of the identity that pushes models and stores results.
        read: Connection string of the identity that pulls models when deploying.
    """

    container: str
    account_url: str = ""
    read_write: str = field(default="", repr=False)
    read: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> AzureStorage:
        """Read it from variables `SLIPWAY_AZURE_*`.

        Raises:
            ConfigurationError: Variables are missing, or exclude each other; names them.
        """
        keys = ["READ_WRITE_CONNECTION_STRING", "READ_CONNECTION_STRING"]
        names = ["CONTAINER", "ACCOUNT_URL", *keys]
        values = {name: environment.get(AZURE_PREFIX + name, "") for name in names}
        needed = ["CONTAINER", *([] if values["ACCOUNT_URL"] else keys)]
        if missing := [AZURE_PREFIX + name for name in needed if not values[name]]:
            raise ConfigurationError(
                f"not set: {', '.join(missing)}",
                state="nothing was changed",
                next_step=f"export {missing[0]}=…, or write it into .env; with"
                f" {AZURE_PREFIX}ACCOUNT_URL no connection strings are needed",
            )
        if values["ACCOUNT_URL"] and (given := [name for name in keys if values[name]]):
            raise ConfigurationError(
                f"{AZURE_PREFIX}ACCOUNT_URL and {AZURE_PREFIX}{given[0]} are both set: a block has"
                " an identity without keys, or a connection string",
                state="nothing was changed",
                next_step=f"unset {AZURE_PREFIX}{given[0]}, or {AZURE_PREFIX}ACCOUNT_URL",
            )
        return cls(*(values[name] for name in names))

    @classmethod
    def is_in(cls, environment: Mapping[str, str]) -> bool:
        """Return whether the container is set."""
        return bool(environment.get(f"{AZURE_PREFIX}CONTAINER"))


def secret_variables() -> frozenset[str]:
    """Return the variables of further blocks; no program but `apply` needs them."""
    return frozenset({*map(variable, SECRETS), NOTIFY_VARIABLE})
