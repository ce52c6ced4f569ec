"""Answers of Prefect's REST API, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


@dataclass(frozen=True)
class FlowRun:
    """A flow run.

    Attributes:
        name: Name of the run, for instance `deploy wine@fee9ac4 to local`.
        flow: Name of its flow.
        state: Type of its state, for instance `RUNNING` or `COMPLETED`.
        label: Name of its state, which is finer: `Late`, `AwaitingRetry`, `Cached`.
        message: Message of its state, of a failed run the error.
        seconds: Its run time.
        end_time: None before its end.
    """

    id: str
    name: str
    flow: str
    state: str
    label: str
    message: str
    seconds: float
    end_time: datetime | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def finished(self) -> bool:
        """Return whether its state is final."""
        return self.state in FINAL

    @property
    def succeeded(self) -> bool:
        """Return whether it completed."""
        return self.state == "COMPLETED"


@dataclass(frozen=True)
class Deployment:
    """A deployment.

    Attributes:
        name: `flow/deployment`.
        pool: The work pool in which its runs wait, None if it has none.
    """

    id: str
    name: str
    pool: str | None


@dataclass(frozen=True)
class WorkPool:
    """A work pool and its workers.

    Attributes:
        paused: Whether it holds its runs back.
        needs_worker: Whether runs wait for a worker; some pools of Prefect Cloud need none.
        online: Names of the workers with a recent heartbeat: a stopped one counts for up to 90 s.
    """

    name: str
    paused: bool
    needs_worker: bool
    online: tuple[str, ...]


@dataclass(frozen=True)
class Artifact:
    """A result that a run has published.

    Attributes:
        type: `markdown`, `table`, `link`, ...
        data: Text, for a table JSON.
    """

    key: str
    type: str
    data: Any


@dataclass(frozen=True)
class State:
    """A state to put a run into.

    Attributes:
        type: For instance `CRASHED`.
        name: The type in a word of its own, which may be finer.
        message: The reason.
    """

    type: str
    name: str
    message: str


@dataclass(frozen=True)
class LogLine:
    """One line of a run's log.

    Attributes:
        task: Name of the task run that logged it, empty if the flow run did.
    """

    run_id: str
    at: datetime
    message: str
    task: str = ""


@dataclass(frozen=True)
class Progress:
    """A run, its subflow runs in the order they started, and the newest line of their logs."""

    runs: tuple[FlowRun, ...]
    line: LogLine | None

    @property
    def run(self) -> FlowRun:
        """Return the run that is followed."""
        return self.runs[0]
