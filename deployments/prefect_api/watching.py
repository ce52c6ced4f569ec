"""Watching a flow run: a line for every event, and errors for a run that does not complete."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator

from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import FlowRun, LogLine, Progress
from tasks.core.errors import SlipwayError, TransientError

Write = Callable[[str], None]
Show = Callable[[Iterator[Progress]], Progress]

# States in which a run waits for a worker.
WAITING = frozenset({"Scheduled", "Late", "AwaitingRetry"})
_LOOK_SECONDS = 2.0
_SERVER_SECONDS = 300.0  # how long the server may be away while a run is followed
_RESTART_SECONDS = 10.0  # in which an automation restarts a crashed run
# What Prefect logs at the end of every run, without its name.
_PREFIX = re.compile(r"(Flow|Task) run encountered an exception:? (\w+Error: )?")
_QUOTES = "\"'"
_FINISHED = re.compile(r"Finished in state (\w+)\((.*)\)", re.DOTALL)


class RunFailed(SlipwayError):
    """A flow run that did not complete."""


class NotStarted(TransientError):
    """A run that no worker starts."""


class WaitsForApproval(SlipwayError):
    """A run that goes on only if a person says so."""


def describe_line(line: LogLine, runs: Iterable[FlowRun]) -> str:
    """Return the first line of a log message, with the name of the task or run that logged it.

    Args:
        line: A line of the log of one of the runs.
        runs: The runs.
    """
    message = line.message
    if finished := _FINISHED.match(message):
        state, reason = finished.groups()
        # Prefect logs a message of several lines as one, with the ends of lines escaped.
        reason = _shorten(reason.strip(_QUOTES)).partition("\\n")[0]
        message = f"{state}, {reason}" if reason else state
        names = {run.id: run.name for run in runs}
        subject = line.task or names.get(line.run_id, "")
    else:
        subject = line.task
    first = message.partition("\n")[0]
    return f"{subject}: {first}" if subject else first


def write_events(steps: Iterable[Progress], write: Write) -> Iterator[Progress]:
    """Pass progress on, and write each new state of a run and each new line of its log once."""
    seen: set[object] = set()
    for step in steps:
        for run in step.runs:
            if (event := (run.id, run.label)) not in seen:
                seen.add(event)
                write(f"{run.flow:8} {run.label:12} {run.seconds:6.1f} s")
        if step.line and step.line not in seen:
            seen.add(step.line)
            write(f"         {describe_line(step.line, step.runs)}")
        yield step


def show_lines(write: Write) -> Show:
    """Return a function that shows progress where there is no terminal: a line for every event."""

    def show(steps: Iterator[Progress]) -> Progress:
        step: Progress | None = None
        for progress in write_events(steps, write):
            step = progress
        assert step is not None
        return step

    return show


def follow_to_end(
    api: PrefectAPI,
    run: FlowRun,
    show: Show,
    *,
    start_within: float,
    every: float = _LOOK_SECONDS,
) -> tuple[FlowRun, ...]:
    """Follow a run to its end; a crashed one that an automation restarts is followed further.

    Args:
        api: The server.
        run: The run.
        show: Shows the progress, and returns the last one.
        start_within: Seconds in which a worker has to start it; waiting for another run of the same
            deployment does not count.
        every: Seconds between two requests.

    Returns:
        The run and its subflow runs in their final states.

    Raises:
        NotStarted: No worker has started it in time.
        WaitsForApproval: It is suspended.
        TransientError: The server stays away.
    """
    progress = api.follow(run.id, every=every, patience=_SERVER_SECONDS)
    last = show(_expect_start(api, progress, start_within))
    if last.run.state == "CRASHED" and _restarts(api, run):
        return follow_to_end(api, run, show, start_within=start_within, every=every)
    return last.runs


def _expect_start(
    api: PrefectAPI, progress: Iterator[Progress], start_within: float
) -> Iterator[Progress]:
    """Pass progress on as long as the run waits for no person, and not too long for a worker."""
    deadline = time.monotonic() + start_within
    for step in progress:
        yield step
        run = step.run
        if run.state == "PAUSED":
            raise WaitsForApproval(
                f"the run waits for a person: it is {run.label}. {run.message}".strip(),
                state="the live model is unchanged; approved, the run goes on by itself, and"
                " rejected or left alone for too long, it ends without a release",
                next_step=f"open {api.approval_url(run)} and press Resume; then run this again to"
                " see the outcome: it follows the same run",
            )
        if run.state != "PENDING" and run.label not in WAITING:
            deadline = time.monotonic() + start_within
        elif time.monotonic() > deadline:
            raise NotStarted(
                f"the run has not started within {start_within:g} s, it is {run.label}",
                state="it starts when a worker takes it; a deploy of an older version than the live"
                " one then releases nothing",
                next_step=f"read the worker's log ({api.ui_url(run)}), then run this again: it"
                " follows the same run",
            )


def _restarts(api: PrefectAPI, run: FlowRun) -> bool:
    """Return whether an automation restarts a crashed run, as it does once."""
    deadline = time.monotonic() + _RESTART_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        if not api.read_run(run.id).finished:
            return True
    return False


def require_completed(
    api: PrefectAPI, runs: tuple[FlowRun, ...], write: Write, *, next_step: str
) -> None:
    """Refuse a run that did not complete, and write the end of its log.

    Raises:
        RunFailed: It did not complete; names the reason.
    """
    run = runs[0]
    if run.succeeded:
        return
    message = _shorten(run.message)
    write("the end of its log:")
    for line in api.read_logs([run.id for run in runs], count=15):
        write(f"  {describe_line(line, runs)}")
    raise RunFailed(
        f"the {run.flow} run ended as {run.label}: {message}",
        # The message of an error of ours contains the state of things.
        state="" if "State: " in message else "slipway status shows what is live",
        next_step=next_step,
    )


def _shorten(message: str) -> str:
    """Return the message of a failed run without what Prefect puts before an error of ours."""
    return _PREFIX.sub("", message)
