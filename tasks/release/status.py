"""The status of an environment: what its platform says is live, and what the history says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from prefect.settings import get_current_settings

from tasks.bucket.shipper import read_waiting
from tasks.core import commands
from tasks.core.errors import ConfigurationError, SlipwayError
from tasks.core.settings import Settings
from tasks.platforms.base.model_server import HttpServer
from tasks.platforms.base.prediction_log import describe_counts
from tasks.platforms.base.replicas import Replicas
from tasks.platforms.base.settings import Environment, HostEnvironment
from tasks.platforms.base.target import Live
from tasks.platforms.catalogue import load_environment, make_target
from tasks.release.locks.holder import Holder
from tasks.release.locks.lock import lock_of
from tasks.reports import markdown
from tasks.reports.monitor_report import artifact_key as monitor_key
from tasks.repository.forge import Forge, own_forge
from tasks.repository.release_history import Entry, format_minute, read_history
from tasks.repository.workspace import Workspace
from tasks.runs import artifacts
from tasks.runs.retrying import capability

# A platform that takes longer is reported as unreachable: the others are not to wait for it.
_SECONDS = 60.0


@dataclass(frozen=True)
class Observation:
    """An environment at one moment, as its platform shows it.

    Attributes:
        environment: Its name.
        at: When the observation began, to the second, as tags have it.
        platform: Name of its platform; empty if its settings cannot be read.
        url: Its public URL.
        live: What is live, None if nothing is, or the platform could not be asked.
        lock_holder: The run that deploys to it, None if none does.
        error: Why the platform could not be asked; empty if it was.
        signed: Whether releases count only with a signed tag.
        predictions: What its prediction log has kept and dropped; empty without one.
    """

    environment: str
    at: datetime
    platform: str = ""
    url: str = ""
    live: Live | None = None
    lock_holder: Holder | None = None
    error: str = ""
    signed: bool = False
    predictions: str = ""


@dataclass(frozen=True)
class Status:
    """An observation of an environment beside the environment's history.

    Attributes:
        observation: The observation.
        newest: The newest release in the history, None if there is none.
        monitor: Summary of the newest report of `monitor`; empty if there is none.
    """

    observation: Observation
    newest: Entry | None
    monitor: str = ""

    @property
    def change(self) -> str:
        """The deploy that was changing the environment, or has since; empty if there is none."""
        if self.observation.lock_holder:
            return str(self.observation.lock_holder)
        if self.newest and self.newest.at >= self.observation.at:
            return f"{self.newest.version} was released just now"
        return ""

    @property
    def problem(self) -> str:
        """The fault of the environment; empty if it has none, or a deploy is changing it."""
        observation, newest = self.observation, self.newest
        if not observation.platform:
            return observation.error
        if self.change or not (observation.live or newest):
            return ""
        if observation.error:
            return f"the platform cannot be reached: {observation.error}"
        if observation.live and not observation.live.healthy:
            return f"the server at {observation.url} reports another release, or does not answer"
        if self._replicas and self._replicas.ready < self._replicas.total:
            return f"only {self._replicas} servers behind {observation.url} are ready"
        return _difference(observation.live, newest)

    @property
    def _replicas(self) -> Replicas | None:
        live = self.observation.live
        return live.replicas if live else None

    @property
    def health(self) -> str:
        """The health of the environment, in a word or a sentence."""
        if self.problem:
            return self.problem
        if self.change:
            return f"deploy in progress: {self.change}"
        if self.observation.live is None:
            return f"never released{', unreachable' if self.observation.error else ''}"
        return "healthy"

    def to_json(self) -> dict[str, str]:
        """Return the status as JSON values."""
        observation, newest, live = self.observation, self.newest, self.observation.live
        return {
            "environment": observation.environment,
            "target": observation.platform,
            "url": observation.url,
            "model": live.model if live else "",
            "version": (live.version or "-") if live else "",
            "commit": live.commit if live else "",
            "replicas": str(self._replicas or ""),
            "since": format_minute(newest.at) if newest else "",
            "flow_run": newest.run if newest else "",
            "predictions": observation.predictions,
            "health": self.health,
            "monitor": self.monitor,
            "problem": self.problem,
        }


def _difference(live: Live | None, newest: Entry | None) -> str:
    if live and newest and live.commit == newest.commit:
        return ""
    recorded = f"{newest.version} at {newest.commit[:7]}" if newest else "no release"
    return f"{live.label if live else 'nothing'} is live; the history has {recorded}"


@capability("observe environment", run_name="observe {name}", timeout=2 * _SECONDS)
async def observe(name: str) -> Observation:
    """Read what is live in an environment; a failure to do so is part of the observation."""
    at = datetime.now(UTC).replace(microsecond=0)
    try:
        environment = load_environment(name)
    except ConfigurationError as error:
        return Observation(name, at, error=error.what)
    platform = environment.target
    try:
        target = make_target(environment)
        async with asyncio.timeout(_SECONDS):
            # The lock first: a deploy that begins after it was read shows in the history.
            holder = await lock_of(environment).read_holder()
            live = await target.status()
            predictions = await _read_predictions(environment, target.url) if live else ""
        return Observation(
            name, at, platform, target.url, live, holder,
            signed=environment.signed, predictions=predictions,
        )  # fmt: skip
    except SlipwayError as error:
        return Observation(name, at, platform, error=error.what)
    except TimeoutError:
        return Observation(name, at, platform, error=f"no answer within {_SECONDS:g} s")
    except Exception as error:  # one platform's client must not hide the others
        return Observation(name, at, platform, error=f"its client failed: {error!r}")


async def _read_predictions(environment: Environment, url: str) -> str:
    """Describe the prediction log of a live environment, as far as it can be reached."""
    if environment.log is None:
        return ""
    counts = describe_counts(await HttpServer(url).metrics())
    is_here = isinstance(environment, HostEnvironment)
    problem = read_waiting(Settings().spool).problem if is_here else ""
    return "; ".join(filter(None, (counts, problem)))


async def read_status(workspace: Workspace, observation: Observation) -> Status:
    """Compare an observation with the environment's history, and log the result.

    Args:
        workspace: A workspace of the model, cloned after the observation.
        observation: The observation.
    """
    workspace = replace(workspace, signed_tags=observation.signed)
    history = await read_history(workspace, observation.environment)
    status = Status(observation, history[0] if history else None)
    if observation.live:
        key = monitor_key(observation.live.model, observation.environment)
        status = replace(status, monitor=await artifacts.read_description(key))
    values = status.to_json()
    facts = [
        f"{values['model']} {values['version']} at {values['commit'][:7]}"
        if values["model"]
        else "",
        f"since {values['since']}" if values["model"] and values["since"] else "",
        status.health,
        f"predictions: {observation.predictions}" if observation.predictions else "",
        observation.url,
        status.monitor,
    ]
    log = commands.run_logger().error if status.problem else commands.run_logger().info
    log("%s: %s", observation.environment, ", ".join(filter(None, facts)))
    return status


async def publish_status(statuses: Sequence[Status]) -> None:
    """Publish the status of all environments as one table."""
    ui, forge = get_current_settings().ui_url or "", own_forge()
    header = [
        "environment", "health", "model", "version", "commit", "replicas", "since", "by",
        "predictions", "monitor", "platform",
    ]  # fmt: skip
    rows = [_row(status.to_json(), ui, forge) for status in statuses]
    table = markdown.markdown_table(header, rows)
    await artifacts.publish_markdown("environments", table, "What is live, and its health")


def _row(values: dict[str, str], ui: str, forge: Forge | None) -> list[str]:
    name, url, commit, run = (values[key] for key in ("environment", "url", "commit", "flow_run"))
    return [
        f"[{name}]({url})" if url else name,
        f"**{values['health']}**" if values["problem"] else values["health"],
        values["model"],
        values["version"],
        markdown.commit_link(forge, commit, short=True) if commit else "",
        values["replicas"],
        values["since"],
        f"[run]({ui}/runs/flow-run/{run})" if run else "",
        values["predictions"],
        values["monitor"],
        values["target"],
    ]
