"""What clients of a live model rely on, and what a release would change of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.package.package import Package, read_at
from tasks.platforms.base.target import Live


@dataclass(frozen=True)
class Interface:
    """The interface of a model, as its commit describes it; None: the commit does not say.

    Attributes:
        model: Name of the model.
        task: `classification` or `regression`.
        columns: Columns of a row, of which a request has all and no others; for a model on arrays
            their numbers.
        classes: Classes that it can answer, as text.
    """

    model: str
    task: str | None = None
    columns: frozenset[str] | None = None
    classes: frozenset[str] | None = None


def parse_interface(model: str, golden: str, runtime: str) -> Interface:
    """Read an interface.

    Args:
        model: Name of the model.
        golden: Text of its golden predictions; empty if it has none.
        runtime: Text of its `.runtime.json`; empty if it has none.
    """
    try:
        row = json.loads(golden)["inputs"][0]
        facts = json.loads(runtime)
        names = row if isinstance(row, Mapping) else range(len(row))
        return Interface(model, facts.get("task"), _words(names), _words(facts.get("classes")))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Interface(model)


def describe_changes(live: Interface, candidate: Interface) -> list[str]:
    """Describe what clients of the live model would meet, one sentence for each change."""
    changes = []
    if live.model != candidate.model:
        changes.append(f"it is {candidate.model}, and {live.model} is live")
    if live.task and candidate.task and live.task != candidate.task:
        changes.append(f"it does {candidate.task} instead of {live.task}")
    for what, old, new in (
        ("column", live.columns, candidate.columns),
        ("class", live.classes, candidate.classes),
    ):
        if old is None or new is None or old == new:
            continue
        parts = [
            f"{verb} the {what} {', '.join(sorted(names)[:5])}{' …' if len(names) > 5 else ''}"
            for verb, names in (("adds", new - old), ("lacks", old - new))
            if names
        ]
        changes.append(f"it {' and '.join(parts)}")
    return changes


async def read_changes(package: Package, live: Live) -> list[str]:
    """Return what a release would change for clients of what is live.

    Args:
        package: What is to be released.
        live: What is live. Where origin lacks its commit, the name alone is compared.
    """
    workspace = package.workspace

    async def read(model: str, commit: str) -> Interface:
        golden, runtime = [
            await read_at(workspace, commit, f"model/{model}.{kind}.json")
            for kind in ("golden", "runtime")
        ]
        return parse_interface(model, golden, runtime)

    return describe_changes(
        await read(live.model, live.commit), await read(package.model, package.commit)
    )


def _words(values: Any) -> frozenset[str] | None:
    return None if values is None else frozenset(map(str, values))
