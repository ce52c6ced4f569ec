"""Request a deploy from Prefect, once per commit and environment, and wait for its outcome.

`python -m deployments.trigger deploy --ref "$(git rev-parse HEAD)" --environment local --wait`.
GitHub Actions, GitLab CI, the hook of the local origin and `make demo` use it. The server is that
of `PREFECT_API_URL`, see `Connection.from_environment`. Needs httpx and nothing else: CI installs
no more, so it is no subcommand of `slipway`.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import UTC, datetime

from deployments.ci.job import DeployJob, DeployResult
from deployments.github.job import GitHubJob
from deployments.gitlab.job import GitLabJob
from deployments.prefect_api.client import PrefectAPI
from deployments.prefect_api.models import FlowRun
from deployments.prefect_api.release_note import read_release_note
from deployments.prefect_api.watching import (
    WAITING,
    WaitsForApproval,
    follow_to_end,
    require_completed,
    show_lines,
)
from tasks.core.errors import ConfigurationError, SlipwayError, TransientError

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_PAUSES = (1.0, 2.0, 4.0)  # seconds before a retry, if the server does not answer


class NoWorker(ConfigurationError):
    """A work pool that would not start a run."""


def request_deploy(
    api: PrefectAPI, environment: str, commit: str, *, again: str | None = None
) -> FlowRun:
    """Return the run that deploys a commit to an environment; create it if there is none.

    There is one run however many request it: it is returned in its present state, under way or
    ended. A new one is created only if a worker is online to execute it.

    Args:
        api: The server.
        environment: Name of the environment.
        commit: The full hash of the commit.
        again: Name of a further try, for a commit whose run has failed. The same name gets the same
            run.

    Raises:
        ConfigurationError: The hash is not complete, or there is no such environment.
        NoWorker: No worker is online, or the work pool is paused.
        TransientError: The server does not answer.
    """
    if not _COMMIT.fullmatch(commit):
        raise ConfigurationError(
            f"{commit!r} is not the full hash of a commit, by which runs are identified",
            state="no run was created",
            next_step=f"name the commit: git rev-parse {commit or 'HEAD'}",
        )
    name = f"deploy/{environment}"
    deployment = api.find_deployment(name)
    if deployment is None:
        known = sorted(other.partition("/")[2] for other in api.list_deployments("deploy"))
        raise ConfigurationError(
            f"environment {environment!r} is unknown to the Prefect server at {api.url};"
            f" known: {', '.join(known) or 'none'}",
            state="no run was created",
            next_step="name one of them, or create its deployment: slipway apply",
        )
    key = f"{name}/{commit}" + (f"/again/{again}" if again else "")
    run = api.find_run("deploy", key)
    if run and run.label not in WAITING:
        return run
    if deployment.pool:
        require_worker(api, deployment.pool)
    if run:
        return run
    label = f"deploy {commit[:7]} to {environment}"
    return api.create_run(name, {"ref": commit}, idempotency_key=key, name=label)


def require_worker(api: PrefectAPI, name: str) -> None:
    """Refuse a work pool that would not start a run now.

    Raises:
        NoWorker: No worker is online, or the pool is paused.
    """
    pool = api.read_work_pool(name)
    if pool.paused:
        raise NoWorker(
            f"work pool {name!r} is paused",
            state="no run was created",
            next_step=f"prefect work-pool resume {name}, then run this again",
        )
    if pool.needs_worker and not pool.online:
        raise NoWorker(
            f"no worker is online in work pool {name!r}: the run would not start",
            state="no run was created; the live model is unchanged",
            next_step=f"start one on its host (prefect worker start --pool {name}; of the local"
            " stack: slipway up), then run this again",
        )


def main() -> int:
    """Run the command line, and return 0 if the deploy completed."""
    arguments = _arguments()
    job = GitLabJob.from_environment() or GitHubJob.from_environment()
    job.title = f"{arguments.ref[:7]} to {arguments.environment}"
    try:
        with PrefectAPI.from_environment() as api:
            return _deploy(api, arguments, job)
    except KeyboardInterrupt:
        print("stopped watching; the run goes on")
        return 130
    except SlipwayError as error:
        for line in f"{type(error).__name__}: {error}".splitlines():
            _write(line)
        job.finish(str(error))
        return 1


def _deploy(api: PrefectAPI, arguments: argparse.Namespace, job: DeployJob) -> int:
    run = request_deploy_patiently(api, arguments.environment, arguments.ref, again=arguments.again)
    job.link_run(api.ui_url(run))
    before = f", which was requested before and is {run.label}" if run.finished else ""
    _write(f"run {run.id}{before}: {api.ui_url(run)}")
    if not arguments.wait:
        return 0
    try:
        show = show_lines(_write)
        runs = follow_to_end(api, run, show, start_within=arguments.start_within)
    except WaitsForApproval:
        job.set_result(DeployResult("waiting", run.seconds))
        raise
    note = read_release_note(api, run.id)
    outcome = note.data.outcome if note else runs[0].label.lower()
    job.set_result(DeployResult(outcome, runs[0].seconds, note))
    require_completed(
        api,
        runs,
        _write,
        next_step=f"open {api.ui_url(run)}; to try the same commit again: run the job by hand"
        " with `again`, or this command with --again",
    )
    page = note.data.page if note else None
    _write(f"{outcome}{f': {page}' if page else ''}")
    job.finish()
    return 0


def request_deploy_patiently(
    api: PrefectAPI, environment: str, commit: str, *, again: str | None = None
) -> FlowRun:
    """Request a deploy, again if a server that is starting does not answer; never a second run."""
    for pause in _PAUSES:
        try:
            return request_deploy(api, environment, commit, again=again)
        except TransientError:
            time.sleep(pause)
    return request_deploy(api, environment, commit, again=again)


def _write(line: str) -> None:
    # A log must not give commands to GitHub's runner, in either of their forms.
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
        help="fail if no worker has started the run by then (%(default)g)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
