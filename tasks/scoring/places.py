"""Addresses of sources and targets: files and folders of the worker, the bucket, tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tasks.core.errors import ConfigurationError
from tasks.core.settings import CHECKOUT, Settings
from tasks.training.sources import is_allowed

CSV, PACKED_CSV, PARQUET = ".csv", ".csv.gz", ".parquet"
STATE = "nothing was scored"
SCORES = "scores"  # folder of the bucket that every worker may use
_NAME = r"[A-Za-z_]\w{0,50}"
_TABLE = re.compile(rf"sql://[a-z0-9][a-z0-9-]*/{_NAME}(\.{_NAME})?", re.ASCII)


@dataclass(frozen=True)
class Place:
    """A source or a target.

    Attributes:
        address: Absolute path, `s3://BUCKET/KEY` (`azure://CONTAINER/KEY`), or `sql://DATABASE/TABLE`.
        kind: What it is.
    """

    address: str
    kind: Literal["local", "bucket", "database"]

    @property
    def path(self) -> Path:
        """Path on the worker."""
        return Path(self.address)

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.address.partition("://")[2].partition("/")[0]

    @property
    def key(self) -> str:
        """Key in the bucket, or prefix without a slash at its end."""
        return self.address.partition("://")[2].partition("/")[2].rstrip("/")

    @property
    def key_folder(self) -> str:
        """The key of the folder in which the files are: of a file, that around it."""
        return str(PurePosixPath(self.key).parent) if self.ending else self.key

    @property
    def database(self) -> str:
        """Name of the database, as in its Secret block."""
        return self.address.removeprefix("sql://").partition("/")[0]

    @property
    def table(self) -> str:
        """Name of the table, perhaps with its schema."""
        return self.address.removeprefix("sql://").partition("/")[2]

    @property
    def ending(self) -> str:
        """`.csv`, `.csv.gz` or `.parquet` of a file; empty for anything else."""
        name = PurePosixPath(self.address).name
        endings = (ending for ending in (CSV, PACKED_CSV, PARQUET) if name.endswith(ending))
        return next(endings, "") if self.kind != "database" else ""

    def __str__(self) -> str:
        return self.address


def read_place(address: str, parameter: str, bucket: str = "") -> Place:
    """Read an address.

    Args:
        address: As a person writes it; a path is relative to the checkout.
        parameter: The parameter that has it.
        bucket: Name of the bucket of the worker's block, of which one folder is always allowed.

    Raises:
        ConfigurationError: It is none, or this worker may not use it.
    """
    if address.startswith("sql://"):
        if not _TABLE.fullmatch(address):
            raise _refuse(parameter, address, "a table is sql://DATABASE/TABLE")
        place = Place(address, "database")
    elif is_in_bucket(address):
        place = Place(address, "bucket")
        if bucket and place.bucket != bucket:
            raise _refuse(parameter, address, f"only bucket {bucket} is known to the worker")
        if not place.key:
            raise _refuse(parameter, address, "it names no folder of the bucket")
    elif "://" in address or not address.strip():
        raise _refuse(parameter, address, f"it is no path, {Settings().store}:// or sql:// address")
    else:
        place = Place(str((CHECKOUT / address).resolve()), "local")
    allowed = list_allowed(bucket)
    if not is_allowed(place.address, ",".join(allowed)):
        raise ConfigurationError(
            f"{parameter}: the worker may not score {address}: it is not below"
            f" {', '.join(allowed)}",
            state=STATE,
            next_step="use a place below one of these, or add it to SLIPWAY_SCORE_PLACES of the"
            " worker",
        )
    return place


def is_in_bucket(address: str) -> bool:
    """Check whether an address is of a bucket of this host's kind."""
    return address.startswith(f"{Settings().store}://")


def list_allowed(bucket: str) -> list[str]:
    """List the places that `score` may read and write; what is below them, too."""
    places = [place.strip() for place in Settings().score_places.split(",") if place.strip()]
    absolute = [place if "://" in place else str((CHECKOUT / place).resolve()) for place in places]
    return [*absolute, *([f"{Settings().store}://{bucket}/{SCORES}"] if bucket else [])]


def _refuse(parameter: str, address: str, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"{parameter}: {address!r} cannot be used: {problem}",
        state=STATE,
        next_step="correct the parameter; docs/score.md lists the kinds of sources and targets",
    )
