"""The holder of a lock: a flow run, since when, and for which model version."""

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
        flow_run: Name of the flow run.
        id: Id of the flow run, None outside of one.
        version: The model version that it deploys.
        since: When it took the lock, in ISO 8601.
    """

    flow_run: str
    id: str | None
    version: str
    since: str

    @classmethod
    def this_run(cls, version: str) -> Self:
        """Return the present flow run as a holder."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(flow_run.get_name() or "by hand", flow_run.get_id(), version, since)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_json` returned; other keys are ignored.

        Raises:
            KeyError: A key is missing.
        """
        return cls(values["flow_run"], values["id"], values["version"], values["since"])

    def to_json(self) -> dict[str, Any]:
        """Return the holder as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"flow run {self.flow_run} for {self.version} since {self.since}"
