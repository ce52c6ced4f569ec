"""Ask Prefect for a deploy, once per commit and environment, and wait for its outcome.

`python -m deployments.trigger deploy --ref "$(git rev-parse HEAD)" --environment local --wait`.
GitHub Actions, the hook of the local origin and `make demo` all ask this way. The server is the one
that `PREFECT_API_URL` names, see `PrefectAPI.from_environment`. Needs httpx and nothing else.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import UTC, datetime

from deployments.github.job import Ended, GitHubJob
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import FlowRun
from deployments.prefect_api.progress_log import require_completed, told
from deployments.prefect_api.release_note import note_of
from tasks.core.errors import ConfigurationError, SlipwayError, TransientError

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_PAUSES = (1.0, 2.0, 4.0)  # seconds before the server is asked again that did not answer
_LOOK_SECONDS = 2.0
_SERVER_SECONDS = 300.0  # how long the server may be away while a run is followed
_HEALING_SECONDS = 10.0  # in which an automation has run a crashed run again
_NOT_TAKEN_ON = frozenset({"Scheduled", "Late", "AwaitingRetry"})


class NoWorker(ConfigurationError):
    """Nobody would execute the run."""


class NotStarted(TransientError):
    """A run that nobody takes on."""


class WaitsForApproval(SlipwayError):
    """A run that goes on only if a person says so."""


def ask(api: PrefectAPI, environment: str, commit: str, *, again: str | None = None) -> FlowRun:
    """Ask for a deploy of a commit to an environment.

    However often it is asked for, and by how many, there is one run: it is returned as it is now,
    under way or ended. A run that is not there yet is made only if a worker is there to execute it.

    Args:
        api: The server.
        environment: Name of the environment.
        commit: The full hash of the commit.
        again: A name for a further try, for a commit whose run has failed. The same name gets the
            same run.

    Returns:
        The run.

    Raises:
        ConfigurationError: The commit is not named in full, or there is no such environment.
        NoWorker: No worker is online, or the work pool is paused.
        TransientError: The server does not answer.
    """
    if not _COMMIT.fullmatch(commit):
        raise ConfigurationError(
            f"{commit!r} is not the full hash of a commit, which is what a run is known by",
            state="nothing was asked for",
            next_step=f"name the commit: git rev-parse {commit or 'HEAD'}",
        )
    name = f"deploy/{environment}"
    deployment = api.deployment(name)
    if deployment is None:
        known = sorted(each.partition("/")[2] for each in api.deployments("deploy"))
        raise ConfigurationError(
            f"environment {environment!r} is unknown to the Prefect server at {api.url};"
            f" known: {', '.join(known) or 'none'}",
            state="nothing was asked for",
            next_step="name one of them, or register its deployment: slipway apply",
        )
    key = f"{name}/{commit}" + (f"/again/{again}" if again else "")
    found = api.run_of_key("deploy", key)
    if found and found.label not in _NOT_TAKEN_ON:
        return found
    if deployment.pool:
        _require_worker(api, deployment.pool)
    if found:
        return found
    label = f"deploy {commit[:7]} to {environment}"
    return api.create_run(name, {"ref": commit}, idempotency_key=key, name=label)


def _require_worker(api: PrefectAPI, name: str) -> None:
    pool = api.pool(name)
    if pool.paused:
        raise NoWorker(
            f"work pool {name!r} is paused",
            state="nothing was asked for",
            next_step=f"prefect work-pool resume {name}, then run this again",
        )
    if pool.needs_worker and not pool.online:
        raise NoWorker(
            f"no worker is online in work pool {name!r}: nobody would execute the run",
            state="nothing was asked for; what is live stays live",
            next_step=f"start one on its host (prefect worker start --pool {name}; of the local"
            " stack: make up), then run this again",
        )


def follow(api: PrefectAPI, run: FlowRun, *, start_within: float) -> tuple[FlowRun, ...]:
    """Follow a run to its end, printing what happens.

    Args:
        api: The server.
        run: The run.
        start_within: Seconds in which it has to start; waiting for another deploy to the same
            environment does not count.

    Returns:
        The run and its subflow runs, ended.

    Raises:
        NotStarted: It has not started in time.
        WaitsForApproval: It is suspended.
        TransientError: The server stays away.
    """
    deadline = time.monotonic() + start_within
    progress = api.follow(run.id, every=_LOOK_SECONDS, patience=_SERVER_SECONDS)
    for step in told(progress, _say):
        now = step.run
        if now.state == "PAUSED":
            raise _waits_for_approval(api, now)
        if now.state != "PENDING" and now.label not in _NOT_TAKEN_ON:
            deadline = time.monotonic() + start_within
        elif time.monotonic() > deadline:
            raise NotStarted(
                f"the run has not started within {start_within:g} s, it is {now.label}",
                state="it starts when a worker takes it on; unless something newer is live then,"
                " it deploys",
                next_step=f"see what the worker does (its log, {api.ui(now)}), then run this again:"
                " it follows the same run",
            )
    if step.run.state == "CRASHED" and _runs_again(api, run):
        return follow(api, run, start_within=start_within)
    return step.runs


def _runs_again(api: PrefectAPI, run: FlowRun) -> bool:
    """Whether a crashed run is run again, as an automation does it once."""
    deadline = time.monotonic() + _HEALING_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        if not api.run(run.id).finished:
            return True
    return False


def _waits_for_approval(api: PrefectAPI, run: FlowRun) -> WaitsForApproval:
    return WaitsForApproval(
        f"the run waits for a person: it is {run.label}. {run.message}".strip(),
        state="what was live is still live; approved, the run goes on by itself, and rejected or"
        " left alone for too long, it ends without a release",
        next_step=f"open {api.ui(run)} and press Resume; then run this again to see the outcome:"
        " it follows the same run",
    )


def main() -> int:
    """Ask from the command line; the exit code says whether the deploy completed."""
    arguments = _arguments()
    job = GitHubJob.from_environment()
    job.title = f"{arguments.ref[:7]} to {arguments.environment}"
    try:
        with PrefectAPI.from_environment() as api:
            return _deploy(api, arguments, job)
    except KeyboardInterrupt:
        print("stopped watching; the run goes on")
        return 130
    except SlipwayError as error:
        for line in f"{type(error).__name__}: {error}".splitlines():
            _say(line)
        job.finish(str(error))
        return 1


def _deploy(api: PrefectAPI, arguments: argparse.Namespace, job: GitHubJob) -> int:
    run = ask_patiently(api, arguments.environment, arguments.ref, again=arguments.again)
    job.asked(api.ui(run))
    before = f", which was asked for before and is {run.label}" if run.finished else ""
    _say(f"run {run.id}{before}: {api.ui(run)}")
    if not arguments.wait:
        return 0
    try:
        runs = follow(api, run, start_within=arguments.start_within)
    except WaitsForApproval:
        job.ended(Ended("waiting", run.seconds))
        raise
    note = note_of(api, run.id)
    end = Ended(note.outcome if note else runs[0].label.lower(), runs[0].seconds, note)
    job.ended(end)
    require_completed(
        api,
        runs,
        _say,
        next_step=f"open {api.ui(run)}; to try the same commit again: run the workflow by hand"
        " with `again`, or this command with --again",
    )
    _say(f"{end.outcome}{f': {note.url}' if note and note.url else ''}")
    job.finish()
    return 0


def ask_patiently(
    api: PrefectAPI, environment: str, commit: str, *, again: str | None = None
) -> FlowRun:
    """`ask`; a server that is just starting is asked again, which never makes a second run."""
    for pause in _PAUSES:
        try:
            return ask(api, environment, commit, again=again)
        except TransientError:
            time.sleep(pause)
    return ask(api, environment, commit, again=again)


def _say(line: str) -> None:
    # Neither form of a command to GitHub's runner may come out of a log.
    print(f"{datetime.now(UTC):%H:%M:%S} {line.replace('##[', '# #[')}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="deployments.trigger", description=__doc__)
    parser.add_argument("flow", choices=["deploy"])
    parser.add_argument("--ref", required=True, help="full hash of the commit")
    parser.add_argument("--environment", required=True)
    parser.add_argument("--wait", action="store_true", help="follow the run to its end")
    parser.add_argument(
        "--again",
        nargs="?",
        const=f"{datetime.now(UTC):%Y%m%dT%H%M%S}",
        metavar="NAME",
        help="a further try at a commit whose run has failed; the same name gets the same run",
    )
    parser.add_argument(
        "--start-within",
        type=float,
        default=180.0,
        metavar="SECONDS",
        help="fail if no worker has taken the run on by then (%(default)g)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
