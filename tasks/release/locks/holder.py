"""Who holds a lock, since when, and for which model version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

from prefect.runtime import flow_run


@dataclass(frozen=True)
class Holder:
    """A flow run that holds a lock.

    Attributes:
        flow_run: Its name.
        id: Its id, None if it is none.
        version: The model version that it holds the lock for.
        since: Since when, in ISO 8601.
    """

    flow_run: str
    id: str | None
    version: str
    since: str

    @classmethod
    def this_run(cls, version: str) -> Self:
        """The flow run that this is called in."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(flow_run.get_name() or "by hand", flow_run.get_id(), version, since)

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Self:
        """The holder that `describe` has described.

        Raises:
            KeyError: It is described otherwise.
        """
        return cls(said["flow_run"], said["id"], said["version"], said["since"])

    def describe(self) -> dict[str, Any]:
        """The holder as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"flow run {self.flow_run} for {self.version} since {self.since}"
