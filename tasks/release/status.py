"""The condition of an environment: what its platform says is live, and what the history says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from prefect.settings import get_current_settings

from tasks.core import commands
from tasks.core.errors import ConfigurationError, SlipwayError
from tasks.core.settings import Settings
from tasks.platforms.base.target import Live
from tasks.platforms.catalogue import load_environment, make_target
from tasks.release.locks.holder import Holder
from tasks.release.locks.lock import lock_of
from tasks.reports import markdown
from tasks.repository.release_history import Entry, format_minute, read_history
from tasks.repository.workspace import Workspace
from tasks.runs import artifacts
from tasks.runs.retrying import capability

_SECONDS = 60.0


@dataclass(frozen=True)
class Seen:
    """What was seen of an environment, without its history.

    Attributes:
        environment: Its name.
        at: When the look at it began, to the second, as tags have it.
        target: Its platform; empty if its settings cannot be read.
        url: Its public URL.
        live: What is live, None if nothing is, or nobody could say.
        deploy: Who is deploying to it.
        unreached: Why its platform could not be asked; empty if it was.
    """

    environment: str
    at: datetime
    target: str = ""
    url: str = ""
    live: Live | None = None
    deploy: Holder | None = None
    unreached: str = ""


@dataclass(frozen=True)
class Condition:
    """An environment, held against its history.

    Attributes:
        seen: What was seen of it.
        released: The newest release in its history, None if there is none.
    """

    seen: Seen
    released: Entry | None

    @property
    def under_way(self) -> str:
        """What was changing it when it was seen, or has changed it since; empty if nothing."""
        if self.seen.deploy:
            return str(self.seen.deploy)
        if self.released and self.released.at >= self.seen.at:
            return f"{self.released.version} was released just now"
        return ""

    @property
    def problem(self) -> str:
        """What is wrong; empty if nothing is, or a deploy is just changing it."""
        if not self.seen.target:
            return self.seen.unreached
        if self.under_way or not (self.seen.live or self.released):
            return ""
        if self.seen.unreached:
            return f"it cannot be reached: {self.seen.unreached}"
        return _disagreement(self.seen.live, self.released)

    @property
    def health(self) -> str:
        """How it is, in a word or a sentence."""
        if self.problem:
            return self.problem
        if self.under_way:
            return f"under way: {self.under_way}"
        if self.seen.live is None:
            return f"never released{', not reached' if self.seen.unreached else ''}"
        return "healthy"

    def describe(self) -> dict[str, str]:
        """The condition as plain values."""
        live, released = self.seen.live, self.released
        return {
            "environment": self.seen.environment,
            "target": self.seen.target,
            "url": self.seen.url,
            "model": live.model if live else "",
            "version": (live.version or "-") if live else "",
            "commit": live.commit if live else "",
            "since": format_minute(released.at) if released else "",
            "flow_run": released.run if released else "",
            "health": self.health,
            "problem": self.problem,
        }


def _disagreement(live: Live | None, released: Entry | None) -> str:
    said = f"{released.version} at {released.commit[:7]}" if released else "nothing was released"
    if live is None:
        return f"nothing is live; the history says {said}"
    if not live.healthy:
        return "it does not answer as what it is"
    if released is None or live.commit != released.commit:
        return f"the history says {said}"
    return ""


@capability("look at environment", run_name="look at {name}", timeout=2 * _SECONDS)
async def look_at(name: str) -> Seen:
    """See what is live in an environment; that it cannot be seen is an answer, too.

    Args:
        name: Name of the environment.

    Returns:
        What was seen.
    """
    at = datetime.now(UTC).replace(microsecond=0)
    try:
        environment = load_environment(name)
    except ConfigurationError as error:
        return Seen(name, at, unreached=error.what)
    try:
        target = make_target(environment)
        async with asyncio.timeout(_SECONDS):
            # In this order: one that deploys between the two has held the lock for longer.
            deploy = await lock_of(environment).holder()
            live = await target.status()
        return Seen(name, at, environment.target, target.url, live, deploy)
    except SlipwayError as error:
        return Seen(name, at, environment.target, unreached=error.what)
    except TimeoutError:
        return Seen(name, at, environment.target, unreached=f"no answer within {_SECONDS:g} s")
    except Exception as error:  # one platform's client must not hide the others
        return Seen(name, at, environment.target, unreached=f"it cannot be asked: {error!r}")


async def compare(workspace: Workspace, seen: Seen) -> Condition:
    """Hold what was seen of an environment against its history.

    Args:
        workspace: A workspace of the model, cloned after it was seen.
        seen: What was seen.

    Returns:
        Its condition, which the log has too.
    """
    entries = await read_history(workspace, seen.environment)
    condition = Condition(seen, entries[0] if entries else None)
    said = condition.describe()
    facts = [
        f"{said['model']} {said['version']} at {said['commit'][:7]}" if seen.live else "",
        f"since {said['since']}" if seen.live and said["since"] else "",
        condition.health,
        seen.url,
    ]
    tell = commands.run_logger().error if condition.problem else commands.run_logger().info
    tell("%s: %s", seen.environment, ", ".join(filter(None, facts)))
    return condition


async def show(conditions: Sequence[Condition]) -> None:
    """Publish the conditions of all environments as one table."""
    ui, origin = get_current_settings().ui_url or "", Settings().origin
    header = ["environment", "is", "model", "version", "commit", "since", "by", "platform"]
    rows = [
        [
            f"[{said['environment']}]({said['url']})" if said["url"] else said["environment"],
            f"**{said['health']}**" if said["problem"] else said["health"],
            said["model"],
            said["version"],
            markdown.commit_link(origin, said["commit"], short=True) if said["commit"] else "",
            said["since"],
            f"[run]({ui}/runs/flow-run/{said['flow_run']})" if said["flow_run"] else "",
            said["target"],
        ]
        for said in (each.describe() for each in conditions)
    ]
    table = markdown.markdown_table(header, rows)
    await artifacts.publish_markdown("environments", table, "What is live, and how it is")
