"""Which tests run on the same worker of pytest-xdist, and which worker takes what next."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

_ROOT = Path(__file__).resolve().parents[1]
_FLOWS, _PLATFORMS = "tests/code/flows/", "tests/code/platforms/"
_DEPLOYMENTS, _TRAINING = "tests/code/deployments/", "tests/code/training/"
# Files of these share servers of models, and processes that have imported what stages import.
_SERVING, _STAGES = "tests/code/serving/", "tests/code/model/"
# Those that train, half of the folder's time: one group of all would end last, alone.
_ESTIMATORS = tuple(f"{_STAGES}test_{name}.py" for name in ("training", "card", "splits"))
# The repository's own model is trained and served once.
_MODEL = ("tests/data/", "tests/model/", "tests/pipeline/")
# Files whose tests release to the platform in their parameter, or to the worker's host.
_RELEASING = tuple(
    f"{_PLATFORMS}test_{name}.py"
    for name in ("contract", "flows", "canary", "docker", "process", "replicas")
)
_ELSEWHERE = ("flyio", "heroku", "kubernetes", "sagemaker")
# Files that share a worker's second stack, as those of training do: they disturb it.
_ON_A_STACK = tuple(
    f"{_DEPLOYMENTS}{name}"
    for name in (
        "local/test_stack.py", "local/test_demo.py", "local/test_data.py", "test_doctor.py",
        "test_check.py", "test_remove.py",
    )
)  # fmt: skip
_SECOND_STACK = "on a second stack"
# Files that share a worker's Prefect server with a password: all of their tests, or some.
_PASSWORD_SERVER = "on a server with a password"
_ON_A_SERVER = tuple(
    f"{_DEPLOYMENTS}test_{name}.py" for name in ("apply", "cli", "polling", "trigger")
)
# Groups that take minutes, the longest first: a worker that got one of them last would work on
# when all others are through.
_LONG = (
    _FLOWS,
    _SECOND_STACK,
    f"{_DEPLOYMENTS}local/test_self_healing.py",
    f"{_PLATFORMS} on the host",
    _PASSWORD_SERVER,
    *(f"{_PLATFORMS} {platform}" for platform in _ELSEWHERE),
    "tests/code/test_upgrade.py",
    "tests/code/images/test_build.py",
)

# Groups whose tests take long for their number: last of all, where they fill what is left. So most
# tests end in the first minutes.
_LATE = (
    _STAGES,
    f"{_STAGES} estimators",
    "model",
    f"{_PLATFORMS}test_kubernetes.py",
    "tests/code/tasks/release/test_locks.py",
    "tests/code/tasks/training/test_postgresql.py",
    f"{_PLATFORMS}test_shadow.py",
    "tests/code/tasks/training/test_own_metrics.py",
    f"{_DEPLOYMENTS}local/test_supervisor.py",
    f"{_DEPLOYMENTS}test_fork.py",
    "tests/code/tasks/core/test_commands.py",
    f"{_DEPLOYMENTS}github/test_sticky_comment.py",
    f"{_DEPLOYMENTS}local/test_origin.py",
)


def group_of(nodeid: str) -> str:
    """Return the group of a test: those of a group run on one worker, in turn."""
    file, _, test = nodeid.partition("::")
    if file in _ESTIMATORS:
        return f"{_STAGES} estimators"
    for folder in (_FLOWS, _SERVING, _STAGES):
        if file.startswith(folder):
            return folder
    if file.startswith(_MODEL):
        return "model"
    if file.startswith(_TRAINING) or file in _ON_A_STACK:
        return _SECOND_STACK
    if file.startswith(_DEPLOYMENTS) and _name(test) in _tests_that_take("stack", file):
        return _SECOND_STACK
    if file in _ON_A_SERVER:
        return _PASSWORD_SERVER
    if file in _RELEASING:
        platform = next((name for name in _ELSEWHERE if name in test), "on the host")
        return f"{_PLATFORMS} {platform}"
    for platform in _ELSEWHERE:
        if file == f"{_PLATFORMS}test_{platform}.py":
            releases = _name(test) in _tests_that_take(f"{platform}_place", file)
            return f"{_PLATFORMS} {platform}" if releases else file
    return file


def rank(nodeid: str) -> int:
    """Return the place of a test's group in the order of all; equals stay as collected."""
    group = group_of(nodeid)
    if group in _LATE:
        return len(_LONG) + 1 + _LATE.index(group)
    return _LONG.index(group) if group in _LONG else len(_LONG)


def check(item: pytest.Item) -> None:
    """Refuse a test that would start a second stack on one more worker."""
    fixtures = getattr(item, "fixturenames", ())
    if "second_stack" in fixtures and group_of(item.nodeid) != _SECOND_STACK:
        raise pytest.UsageError(
            f"{item.nodeid} uses the second stack: add its file to _ON_A_STACK in {__name__}"
        )


def _name(test: str) -> str:
    return test.partition("[")[0]


@cache
def _tests_that_take(fixture: str, file: str) -> frozenset[str]:
    result = ast.walk(ast.parse((_ROOT / file).read_text()))
    return frozenset(
        node.name
        for node in result
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(argument.arg == fixture for argument in node.args.args)
    )


class Scheduling(LoadFileScheduling):
    """Half of the workers take long groups first, the others short ones: most tests end soon."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        """Give a worker its next group when it begins its last test, not its last but one.

        That may take minutes, for which the group would be kept from workers that are free.
        """
        if self._pending_of(self.assigned_work[node]) <= 1 or not self.workqueue:
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        takes_long = self.nodes.index(node) < len(self.nodes) // 2
        groups: Any = self.workqueue
        first = _is_long if takes_long else _is_short
        # Without any of those left: what takes longest, so that it does not come last.
        chosen = next(filter(first, groups), next(iter(groups)))
        groups.move_to_end(chosen, last=False)
        super()._assign_work_unit(node)


def _is_long(group: str) -> bool:
    return group in _LONG


def _is_short(group: str) -> bool:
    return group not in _LONG and group not in _LATE
