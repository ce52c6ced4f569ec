"""A model served in the sandbox with its own bytes and packages, and asked as a client asks it.

It is started as preflight starts a release.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tasks.bucket.outputs import fetch_output
from tasks.core import commands
from tasks.core.bounded_http import bounded_client
from tasks.package.bundle import Bundle, make_bundle
from tasks.package.package import Package, make_body, read_package, verify_artifact
from tasks.package.runtime import make_runtime
from tasks.package.server import run_server
from tasks.repository.parameters import list_private
from tasks.repository.workspace import Workspace
from tasks.training.evidence import TEST
from tasks.training.groups import read_keys
from tasks.training.rows import Data, Inputs

_TRAIN = "data/train.csv"
_READY_SECONDS = 180.0  # a model of hundreds of MB on a busy worker
_REQUEST_SECONDS = 60.0
_BATCH = 500  # rows of 300 columns stay below the server's limit of a body
_TOO_LARGE = 413
_POLL_SECONDS = 0.1
_ROUNDING = 1e-3  # of probabilities: many classes in single precision


class NotComparable(Exception):
    """The models cannot be compared on the same rows; the message says why."""


@dataclass(frozen=True)
class Model:
    """A model whose bytes and data are on this host.

    Attributes:
        package: Its package.
        file: Its verified model file.
        data: Its data.
        classes: Its classes, none for a regression.
        make_python: What installs its packages, and returns their Python.
    """

    package: Package
    file: Path
    data: Data
    classes: Sequence[Any]
    make_python: Callable[[Package], Awaitable[Path]] = make_runtime

    def shape(self, values: Mapping[str, Any]) -> Any:
        """Return the values of a row as a client sends them: as a list for a model on arrays."""
        by_column = isinstance(self.package.golden["inputs"][0], Mapping)
        return values if by_column else list(values.values())


@dataclass(frozen=True)
class Files:
    """The ways in which this host gets the files and packages of a model.

    Attributes:
        fetch: Returns the file of an output of the workspace's commit.
        verify: Compares a model file with what its commit says of it.
        make_python: Installs the packages of a model, and returns their Python.
    """

    fetch: Callable[[Workspace, str], Awaitable[Path]] = fetch_output
    verify: Callable[[Package, Path], Awaitable[None]] = verify_artifact
    make_python: Callable[[Package], Awaitable[Path]] = make_runtime


class Servers:
    """Servers of models, each started when it is first asked, and stopped together."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def client_of(self, model: Model) -> httpx.AsyncClient:
        """Return a client of a model's server, which is ready.

        Raises:
            NotComparable: It does not start.
            TerminalError: Its packages cannot be installed.
        """
        commit = model.package.commit
        if commit not in self._clients:
            self._clients[commit] = await self._stack.enter_async_context(serve_model(model))
        return self._clients[commit]


async def load_model(
    workspace: Workspace, like: Inputs | None = None, files: Files | None = None
) -> Model:
    """Bring a model's bytes and data to this host.

    Args:
        workspace: The workspace at its commit.
        like: The columns of another model, whose types those of a model have that was saved before
            types were recorded.
        files: How this host gets its files and packages; by default as a flow does.

    Raises:
        NotComparable: The types of its columns are unknown.
        TerminalError: Its commit has no saved model, or an object of it is nowhere.
    """
    files = files or Files()
    package = read_package(workspace)
    runtime = json.loads(package.files[2].read_text())
    types = runtime.get("columns") or _borrow_types(package.golden["inputs"][0], like)
    if not types:
        raise NotComparable(f"{package.label} was saved without the types of its columns")
    inputs = Inputs(types, frozenset(runtime.get("nullable") or ()))
    train, test = [await files.fetch(workspace, path) for path in (_TRAIN, TEST)]
    file = await files.fetch(workspace, package.artifact)
    await files.verify(package, file)
    named = workspace.parameters["data"]
    private = list_private(workspace.parameters)
    data = Data(train, test, str(named["target"]), inputs, read_keys(workspace), private)
    return Model(package, file, data, runtime.get("classes") or (), files.make_python)


def _borrow_types(row: Any, like: Inputs | None) -> dict[str, str]:
    if like is None or not isinstance(row, Mapping) or not row.keys() <= like.types.keys():
        return {}
    return {name: like.types[name] for name in row}


async def make_bundle_of(model: Model, folder: Path) -> Bundle:
    """Make what can be served, in a new folder.

    Raises:
        TerminalError: The packages cannot be installed.
    """
    python = await model.make_python(model.package)
    return await asyncio.to_thread(
        make_bundle,
        model.package,
        model.file,
        python,
        folder,
        environment="gate",
        identifier=model.package.commit[:12],
    )


@asynccontextmanager
async def serve_model(model: Model) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a model in the sandbox beside a block of code.

    Yields:
        A client of its server, which is ready.

    Raises:
        NotComparable: It does not start.
        TerminalError: Its packages cannot be installed.
    """
    # One for each try: a bundle is never written over another.
    folder = model.package.workspace.path / "gate" / uuid4().hex[:8]
    bundle = await make_bundle_of(model, folder)
    async with (
        run_server(bundle, folder, {}) as (url, server),
        bounded_client(url, timeout=_REQUEST_SECONDS) as client,
    ):
        await _wait_until_ready(client, server, model.package.label)
        yield client


async def _wait_until_ready(
    client: httpx.AsyncClient, server: commands.BackgroundProgram, label: str
) -> None:
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while server.code is None:
                try:
                    if (await client.get("/readyz")).status_code == 200:
                        return
                except httpx.RequestError:
                    pass  # it does not listen yet
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        pass
    raise NotComparable(f"the server of {label} did not get ready: {server.tail(3)}")


async def ask(client: httpx.AsyncClient, method: str, rows: Sequence[Any]) -> list[Any]:
    """Have a method of a served model answer rows, as a client sends them, in batches.

    Raises:
        NotComparable: It refuses rows, stops answering, or gives other answers than one a row.
    """
    answers: list[Any] = []
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        body = make_body(batch)
        try:
            answer = await client.post(f"/{method}", json=body)
        except httpx.HTTPError as error:
            raise NotComparable(f"a model server stopped answering: {error!r}") from error
        if answer.status_code == _TOO_LARGE and len(batch) > 1:  # of long texts
            for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
                answers += await ask(client, method, half)
            continue
        if answer.status_code != 200:
            # Without its words, which may have values of the row.
            raise NotComparable(f"a model server refused rows with status {answer.status_code}")
        answers += _read_answers(answer, len(batch))
    return answers


async def ask_shares(
    client: httpx.AsyncClient, rows: Sequence[Any], classes: int
) -> list[list[float]]:
    """Have a served model answer rows with the probability of each class.

    Raises:
        NotComparable: As `ask`, or its answers are no probabilities: by others, such as 1 for each
            class, any model would look sure of the right one.
    """
    answers = await ask(client, "predict_proba", rows)
    if not all(_are_shares(shares, classes) for shares in answers):
        raise NotComparable(f"a model does not give the probabilities of its {classes} classes")
    return answers


def _are_shares(shares: Any, classes: int) -> bool:
    if not isinstance(shares, list) or len(shares) != classes:
        return False
    if not all(isinstance(share, int | float) and share >= -_ROUNDING for share in shares):
        return False
    return abs(math.fsum(shares) - 1) <= _ROUNDING


def _read_answers(answer: httpx.Response, rows: int) -> list[Any]:
    """Read the answers to rows: the model's code, which is of a commit, may have written them."""
    try:
        answers = answer.json()
    except ValueError:
        answers = None
    if not isinstance(answers, list) or len(answers) != rows:
        raise NotComparable(f"a model does not give one answer to each of {rows} rows")
    return answers
