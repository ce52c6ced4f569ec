"""Watching a flow run where nobody can scroll back: a line for every event, and how it failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import FlowRun, Progress
from tasks.core.errors import SlipwayError

Say = Callable[[str], None]


class RunFailed(SlipwayError):
    """A flow run that did not complete."""


def told(steps: Iterable[Progress], say: Say) -> Iterator[Progress]:
    """Pass progress on, saying each new state of a run and each new line of its log once.

    Args:
        steps: The progress of a run.
        say: Told every event, as one line.

    Yields:
        The same progress.
    """
    said: set[object] = set()
    for step in steps:
        for run in step.runs:
            if (event := (run.id, run.label)) not in said:
                said.add(event)
                say(f"{run.flow:8} {run.label:12} {run.seconds:6.1f} s")
        if step.line and step.line not in said:
            said.add(step.line)
            say(f"         {step.line.message.partition(chr(10))[0]}")
        yield step


def require_completed(
    api: PrefectAPI, runs: tuple[FlowRun, ...], say: Say, *, next_step: str
) -> None:
    """Refuse a run that ended otherwise than it should.

    Args:
        api: The server.
        runs: The run and its subflow runs, ended.
        say: Told the end of the log of one that failed.
        next_step: What to do about it.

    Raises:
        RunFailed: It did not complete; says why.
    """
    run = runs[0]
    if run.succeeded:
        return
    say("the end of its log:")
    for line in api.logs([each.id for each in runs], count=15):
        say(f"  {line.message.partition(chr(10))[0]}")
    raise RunFailed(
        f"the {run.flow} run ended as {run.label}: {run.message}",
        state="what was live is still live",
        next_step=next_step,
    )
