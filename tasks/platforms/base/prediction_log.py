"""The prediction log of an environment: its settings, and the variables that tell a server."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tasks.monitoring.records import RECORD_END, RECORD_START

# `serving/settings.py` reads them; it shares no code with this side.
SETTINGS, FOLDER, KEY = "SLIPWAY_LOG", "SLIPWAY_LOG_FOLDER", "SLIPWAY_LOG_KEY"
_COUNTER = re.compile(
    r'^slipway_serving_log_records_total\{result="([^"]+)"\} (\S+)$', re.MULTILINE
)
_KEPT = "kept"
# Containers write as a user of their own. The folder is inside one that only the worker's user can
# enter, and only that user can remove what others wrote.
_SHARED_MODE = 0o1777


class LogSettings(BaseModel):
    """The prediction log of an environment.

    Attributes:
        share: Share of the requests whose records are kept.
        seconds: Time after which a file of records is complete, and can be shipped.
        spool_mb: Size of the files that wait on a server; the oldest make room for new ones.
        feedback: Whether the server takes the right answers to predictions, at `/feedback`.
        private: Whether private columns are left out, or their values hashed with a key.
        key: Name of the Secret block with that key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: float = Field(1.0, gt=0, le=1)
    seconds: float = Field(60.0, ge=1, le=3600)
    spool_mb: int = Field(256, ge=16)
    feedback: bool = False
    private: Literal["drop", "hash"] = "drop"
    key: str = ""

    @model_validator(mode="after")
    def _hash_with_a_key(self) -> Self:
        if (self.private == "hash") != bool(self.key):
            raise ValueError('key: set it with private = "hash", and only then')
        return self

    @property
    def variables(self) -> dict[str, str]:
        """The variables of a server that keeps the log."""
        return {SETTINGS: json.dumps(self.model_dump(exclude={"key"}))}

    def make_shadow_variables(self, private: Collection[str]) -> dict[str, str]:
        """Make the variables of a server that gets mirrored requests.

        Args:
            private: Columns that are private beside those that its own version names: clients
                have been told what the live version keeps of them.
        """
        settings = self.model_dump(exclude={"key"}) | {"private_columns": sorted(private)}
        return {SETTINGS: json.dumps(settings)}

    @property
    def secrets(self) -> dict[str, str]:
        """The secret variables of such a server, each with the block of its value."""
        return {KEY: self.key} if self.key else {}


def _read_json(value: object) -> object:
    """Read a table that a variable holds as JSON; an empty one is no table."""
    return (json.loads(value) if value.strip() else None) if isinstance(value, str) else value


OptionalLog = Annotated[LogSettings | None, BeforeValidator(_read_json)]


def without_log(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a server on trial: what it predicts is no traffic."""
    return {name: value for name, value in variables.items() if name not in {SETTINGS, KEY}}


def last_lines_without_records(log: str, lines: int) -> str:
    """Return the last lines of a server's log without the records, which have clients' values.

    A platform cuts a long line into several, and its output may begin within a record. So lines
    are left out from the beginning of a record to its end, and before an end without a beginning.
    """
    own_lines: list[str] = []
    is_record = False
    for line in log.splitlines():
        begins, ends = RECORD_START in line, line.rstrip().endswith(RECORD_END)
        if ends and not (begins or is_record):
            own_lines.clear()
        elif not (begins or is_record):
            own_lines.append(line)
        is_record = (begins or is_record) and not ends
    return "\n".join(own_lines[-lines:]).strip()


def describe_counts(metrics: str) -> str:
    """Describe how many records a server has kept and dropped since it started.

    Args:
        metrics: Its answer to `/metrics`.

    Returns:
        A few words; none if it keeps no log.
    """
    counts = {name: int(float(value)) for name, value in _COUNTER.findall(metrics)}
    if not counts:
        return ""
    dropped = sum(count for name, count in counts.items() if name != _KEPT)
    text = f"{counts.get(_KEPT, 0):,} kept"
    return f"{text}, {dropped:,} dropped" if dropped else text


def find_spool(folder: Path, model: str, environment: str, version: str) -> Path:
    """Return the folder in which servers of one version leave their records.

    Args:
        folder: Folder of all spools of this host.
        model: Name of the model.
        environment: Name of the environment.
        version: The version.

    Returns:
        The folder. Its path says whose records are in it: code of a model can write into the
        folder, and cannot change the path.
    """
    return folder / model / environment / version


def make_spool(spool: Path) -> Path:
    """Make the folder in which servers of one version leave their records, and return it."""
    spool.parents[2].mkdir(mode=0o700, parents=True, exist_ok=True)
    spool.mkdir(parents=True, exist_ok=True)
    spool.chmod(_SHARED_MODE)
    return spool
