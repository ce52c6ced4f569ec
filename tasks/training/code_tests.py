"""Tests of a model that are code: `tests/model`, run in the sandbox beside the model's server."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from uuid import uuid4

from tasks.core import commands
from tasks.core.settings import CHECKOUT
from tasks.package.bundle import Bundle
from tasks.package.server import serve
from tasks.repository.workspace import Workspace
from tasks.sandbox.box import Box, start_in
from tasks.training.pytest_plugin_names import BUNDLE, PORT, RESULTS, SERVER
from tasks.training.served import Model, NotComparable, make_bundle_of

TESTS = "tests/model"
_SECONDS = 900.0
_PASSED, _FAILED = 0, 1  # exit codes of pytest
_FILES = ("params.yaml", "reports", "model/{name}.mlem", "model/{name}.golden.json")


async def run_tests(model: Model, source: Workspace) -> list[str]:
    """Run the tests of a commit on a model, and return the names of those that fail.

    Args:
        model: The model.
        source: A workspace at the commit whose tests count.

    Raises:
        NotComparable: There are none, or pytest cannot run them.
        TerminalError: The packages of the model cannot be installed.
    """
    tests = source.path / TESTS
    if not tests.is_dir():
        raise NotComparable(f"{source.label} has no {TESTS} (gate.tests)")
    folder = model.package.workspace.path / "gate" / uuid4().hex[:8]
    bundle = await make_bundle_of(model, folder)
    place, temporary = folder / "tests", folder / "tmp"
    temporary.mkdir()
    await asyncio.to_thread(_lay_out, model, tests, place)
    try:
        box = _make_box(model, bundle, place, temporary)
        result = await commands.run(start_in(box, _PYTEST), timeout=_SECONDS, cwd=place)
    except commands.CommandTimeout as error:
        raise NotComparable(f"{TESTS} took longer than {_SECONDS:.0f} s (gate.tests)") from error
    if result.code == _PASSED:
        return []
    failed = _read_failed(temporary / RESULTS)
    if result.code != _FAILED or not failed:
        raise NotComparable(
            f"pytest could not run {TESTS} (gate.tests): exit code {result.code}, {result.tail(3)}"
        )
    return failed


# The configuration and the plugins of this checkout are for other tests.
_PYTEST = [
    sys.executable, "-P", "-m", "pytest", "-q", "-c", "pytest.ini", "-p", "no:cacheprovider",
    "-p", "tasks.training.pytest_plugin", TESTS,
]  # fmt: skip


def _lay_out(model: Model, tests: Path, place: Path) -> None:
    """Copy what tests may read into a folder of their own."""
    root = model.package.workspace.path
    for name in _FILES:
        source = root / name.format(name=model.package.model)
        target = place / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        elif source.is_file():
            shutil.copy2(source, target)
    (place / "data").mkdir()
    for split, file in (("train", model.data.train), ("test", model.data.test)):
        (place / "data" / f"{split}.csv").symlink_to(file)
    shutil.copytree(tests, place / TESTS)
    (place / "pytest.ini").write_text("[pytest]\n")


def _make_box(model: Model, bundle: Bundle, place: Path, temporary: Path) -> Box:
    server = [PORT if word == "0" else word for word in serve(bundle.python, bundle.path, 0)]
    return Box(
        folder=place,
        # Not writable: the model's code runs there, too, and must not change what tests import.
        readable=(place, CHECKOUT / "tasks", bundle.path, model.data.train, model.data.test),
        pythons=(Path(sys.executable), bundle.python),
        temporary=temporary,
        settings={
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            SERVER: json.dumps(server),
            BUNDLE: str(bundle.path),
        },
    )


def _read_failed(file: Path) -> list[str]:
    try:
        failed = json.loads(file.read_text())
    except (OSError, ValueError):
        return []
    return [str(name) for name in failed] if isinstance(failed, list) else []
