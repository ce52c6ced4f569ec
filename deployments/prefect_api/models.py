"""What Prefect's REST API answers, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


@dataclass(frozen=True)
class FlowRun:
    """A flow run as the server knows it.

    Attributes:
        id: Its id.
        name: Its own name.
        flow: Name of its flow.
        state: Type of its state, for instance `RUNNING` or `COMPLETED`.
        label: Name of its state, which tells more: `Late`, `AwaitingRetry`, `Cached`.
        message: What its state says, for a failed run the error.
        seconds: How long it has run.
        ended: When it ended, None as long as it has not.
    """

    id: str
    name: str
    flow: str
    state: str
    label: str
    message: str
    seconds: float
    ended: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether its state is final."""
        return self.state in FINAL

    @property
    def succeeded(self) -> bool:
        """Whether it completed."""
        return self.state == "COMPLETED"


@dataclass(frozen=True)
class Deployment:
    """A deployment as the server knows it.

    Attributes:
        id: Its id.
        name: `flow/deployment`.
        pool: The work pool that its runs wait in, None if it has none.
    """

    id: str
    name: str
    pool: str | None


@dataclass(frozen=True)
class WorkPool:
    """A work pool, and who would execute its runs.

    Attributes:
        name: Its name.
        paused: Whether it holds its runs back.
        needs_worker: Whether runs wait for a worker; pools of Prefect Cloud may do without.
        online: The workers that were heard of lately: a stopped one counts for up to 90 s.
    """

    name: str
    paused: bool
    needs_worker: bool
    online: tuple[str, ...]


@dataclass(frozen=True)
class Artifact:
    """What a run has published.

    Attributes:
        key: Its key.
        type: `markdown`, `table`, `link`, ...
        data: Its content: text, for a table JSON.
    """

    key: str
    type: str
    data: Any


@dataclass(frozen=True)
class State:
    """A state to put a run into.

    Attributes:
        type: Its type, for instance `CRASHED`.
        name: Its name, which may tell more.
        message: Why the run is put into it.
    """

    type: str
    name: str
    message: str


@dataclass(frozen=True)
class LogLine:
    """One line of a run's log."""

    run_id: str
    at: datetime
    message: str


@dataclass(frozen=True)
class Progress:
    """Where a run is: itself, its subflow runs in the order they started, its newest log line."""

    runs: tuple[FlowRun, ...]
    line: LogLine | None

    @property
    def run(self) -> FlowRun:
        """The run that is followed."""
        return self.runs[0]
