"""Fixtures of all tests: a real local stack, folders, and the order of the tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Nothing that is imported or collected is garbage: looking for it costs a worker 3 s of CPU.
gc.disable()

from tests.memory import keep_files_in_memory
from tests.template import ENVIRONMENTS, copy_template

keep_files_in_memory()
# Before the first import of a module that reads it; programs that tests start inherit it.
os.environ["SLIPWAY_ENVIRONMENTS_FOLDER"] = str(ENVIRONMENTS)
# Without compiled modules, each program that tests start takes two or three times as long.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# As stages have it, for those that tests run in forked processes, too.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

from deployments.local import signing
from deployments.local.stack import Stack
from tasks.core.settings import CHECKOUT
from tests.commits import commit_all
from tests.scheduling import Scheduling, group_of, rank
from tests.shared_stack import stop_at_end, use_shared_stack
from tests.tls import share_contexts
from tests.trained import TRAINING_SECONDS, served, trained  # noqa: F401 (fixtures)

share_contexts()
_SECOND_STACKS: list[Stack] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first, and let a user's model take the time that it needs."""
    items.sort(key=lambda item: rank(item.nodeid))
    for item in items:
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(TRAINING_SECONDS + 300))


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but not what is there already."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """Give tests that share the most to one of several workers."""
    config.option.loadscopereorder = False  # it would put files of many short tests first
    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop this worker's second stack after the last test that uses it: an idle one costs CPU."""
    is_last = nextitem is None or group_of(nextitem.nodeid) != group_of(item.nodeid)
    while is_last and _SECOND_STACKS:
        _SECOND_STACKS.pop().down()


@pytest.fixture(scope="session", autouse=True)
def _signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give flows that run without a stack a key of their own, which is allowed."""
    home = tmp_path_factory.mktemp("signer")
    signing.prepare(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_SIGNING_KEY_FILE", str(signing.key_file(home)))
        patch.setenv("SLIPWAY_TRUST", str(signing.trust_folder(home)))
        yield


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all workers of a test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository whose one commit is the checkout's code with the model of the tests."""
    folder = tmp_path_factory.mktemp("source")
    copy_template(folder)
    commit_all(folder, "Under test")
    return folder


@pytest.fixture(scope="session")
def environments(run_folder: Path) -> Path:
    """Return the folder of the models' Python environments, shared by all homes and workers.

    Lock files in it make sure that each is built, and its modules are compiled, once.
    """
    folder = run_folder / "environments"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def make_home(
    tmp_path_factory: pytest.TempPathFactory, environments: Path
) -> Callable[[str], Path]:
    """Return a function that makes a home for a stack, or for flows on another worker."""

    def make(name: str) -> Path:
        home = tmp_path_factory.mktemp(name)
        (home / "environments").symlink_to(environments)
        return home

    return make


@pytest.fixture(scope="session")
def stack(run_folder: Path, environments: Path) -> Iterator[Stack]:
    """Yield a real stack that is up, with ports and a folder of its own, shared by all workers."""
    with use_shared_stack(run_folder / "stack", environments) as stack:
        yield stack


@pytest.fixture
def stack_environment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set the environment of the stack's worker in this process for one test."""
    variables = stack.environment()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture(scope="session")
def second_stack(make_home: Callable[[str], Path], source: Path) -> Iterator[Stack]:
    """A stack of this worker, up, for tests that would disturb those of the shared one."""
    stack = Stack(
        make_home("another"), CHECKOUT, source=source, usual_ports=False, deploy_on_push=False
    )
    with stop_at_end(stack):
        stack.up(print)
        _SECOND_STACKS.append(stack)
        yield stack
