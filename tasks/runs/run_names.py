"""Names of runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from prefect.runtime import flow_run, task_run

_COMMIT = re.compile(r"\b[0-9a-f]{40}\b")


def run_name(template: str) -> Callable[[], str]:
    """Name of a flow or task run with its parameters in it, commits cut to seven digits.

    Args:
        template: For instance `"deploy {ref} to {environment}"`.

    Returns:
        What Prefect calls for the name.
    """

    def name() -> str:
        parameters: dict[str, Any] = {**flow_run.parameters, **task_run.parameters}
        return _COMMIT.sub(lambda found: found[0][:7], template.format(**parameters)).strip()

    return name
