"""Machines on Fly.io, as the Machines API describes them, and the live release among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

_GONE = {"destroying", "destroyed", "launch_failed"}


@dataclass(frozen=True)
class Machine:
    """A machine, as Fly describes it.

    Attributes:
        name: Its name, which no other machine of the app has.
        state: Its state, in Fly's words.
        cordoned: True if Fly's proxies keep requests away from it.
        metadata: Its labels.
        healthy: True if it runs and passes all its checks.
        end: Description of an end on its own, empty without one.
        summary: State and checks, for people.
    """

    identifier: str
    name: str
    state: str
    cordoned: bool
    metadata: Mapping[str, str]
    healthy: bool
    end: str
    summary: str

    @property
    def release(self) -> str:
        """Its release, empty if it is not ours."""
        return self.metadata.get("slipway_release", "")

    @property
    def is_gone(self) -> bool:
        """True if it is gone, or soon will be."""
        return self.state in _GONE

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """Read a machine from an answer of the API."""
        checks = answer.get("checks") or []
        # Of one whose host is out of reach, Fly knows only a part.
        config = answer.get("config") or answer.get("incomplete_config") or {}
        passing = [check.get("status") == "passing" for check in checks]
        lines = [f"{check.get('name')}: {check.get('output', '')}".strip() for check in checks]
        return cls(
            identifier=answer["id"],
            name=answer["name"],
            state=answer["state"],
            cordoned=bool(answer.get("cordoned")),
            metadata=config.get("metadata") or {},
            healthy=answer["state"] == "started" and bool(passing) and all(passing),
            end=_end_of(answer),
            summary="\n".join([f"machine {answer['id']} is {answer['state']}", *lines]),
        )


def of_release(machines: Iterable[Machine], release: str | None) -> list[Machine]:
    """Select the machines of a release."""
    return [machine for machine in machines if machine.release == release]


def routed_releases(machines: Iterable[Machine]) -> set[str]:
    """Return the releases that get requests."""
    return {machine.release for machine in machines if not machine.cordoned}


def live(machines: Iterable[Machine]) -> str | None:
    """Return the live release: the oldest that gets requests, None if none does."""
    return min(routed_releases(machines), default=None)  # names begin with the time


def kept_images(machines: Iterable[Machine]) -> list[str]:
    """Return the digests of the images that a release keeps, newest first."""
    return next((machine.metadata["slipway_images"].split(",") for machine in machines), [])


def _end_of(answer: Mapping[str, Any]) -> str:
    """Describe how a machine ended on its own; empty if it did not."""
    for event in answer.get("events") or []:
        request = event.get("request") or {}
        end = (request.get("MonitorEvent") or request).get("exit_event")
        if event.get("type") == "exit" and end and not end.get("requested_stop"):
            memory = ", out of memory" if end.get("oom_killed") else ""
            return f"exit code {end.get('exit_code', 0)}{memory}"
    return "it failed to start" if answer["state"] == "failed" else ""
