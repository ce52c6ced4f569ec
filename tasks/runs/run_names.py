"""Names of flow and task runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from prefect.runtime import flow_run, task_run

_COMMIT = re.compile(r"\b[0-9a-f]{40}\b")


def run_name(template: str) -> Callable[[], str]:
    """Make a function that names a flow or task run after its parameters, with short commits.

    Args:
        template: For instance `"deploy {ref} to {environment}"`.
    """

    def name() -> str:
        parameters: dict[str, Any] = {**flow_run.parameters, **task_run.parameters}
        return _COMMIT.sub(lambda match: match[0][:7], template.format(**parameters)).strip()

    return name
