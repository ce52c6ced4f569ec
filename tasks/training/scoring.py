"""Candidate and champion, each served with its own bytes and packages, answer the same rows.

Both are started in the sandbox, as preflight starts a release, and asked as clients ask them.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import httpx

from tasks.bucket.outputs import fetch_output
from tasks.core import commands
from tasks.core.bounded_http import bounded_client
from tasks.package.package import Package, make_body, read_package, verify_artifact
from tasks.package.server import run_server, stage
from tasks.repository.workspace import Workspace
from tasks.training.behaviour import change_rows, share_broken
from tasks.training.evidence import TEST, Evaluation
from tasks.training.groups import read_keys
from tasks.training.rows import (
    LEAST_ROWS,
    Data,
    Inputs,
    SharedRows,
    find_groups,
    normalize,
    read_rows,
    share_rows,
)
from tasks.training.rules import Behaviour

_TRAIN = "data/train.csv"
_READY_SECONDS = 180.0  # a model of hundreds of MB on a busy worker
_REQUEST_SECONDS = 60.0
_TIMED = 100  # requests to each server, for their median
_TRIED = 500  # rows of a test of behaviour
_BATCH = 500  # rows of 300 columns stay below the server's limit of a body
_POLL_SECONDS = 0.1
_LEAST_PROBABILITY = 1e-15  # scikit-learn's log_loss clips there, too


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
        keys: The columns that tell which of its rows belong together.
    """

    package: Package
    file: Path
    data: Data
    classes: Sequence[Any]
    keys: Sequence[str] = ()

    def shape(self, values: Mapping[str, Any]) -> Any:
        """Return the values of a row as a client sends them: as a list for a model on arrays."""
        by_column = isinstance(self.package.golden["inputs"][0], Mapping)
        return values if by_column else list(values.values())


@dataclass(frozen=True)
class Scores:
    """Answers of both models to the same rows.

    Attributes:
        shared: The rows, and those left out.
        candidate: The candidate's answers.
        champion: The champion's.
    """

    shared: SharedRows
    candidate: Evaluation
    champion: Evaluation


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


async def score_both(candidate: Model, champion: Model, servers: Servers) -> Scores:
    """Have both models answer the test rows of both.

    Raises:
        NotComparable: Too few rows are left, or a model cannot be started or does not answer.
        TerminalError: The packages of one cannot be installed.
        TransientError: The package index does not answer.
    """
    if candidate.data.target != champion.data.target:
        raise NotComparable("the two models predict different columns")
    shared = await asyncio.to_thread(share_rows, candidate.data, champion.data)
    if len(shared.rows) < LEAST_ROWS:
        raise NotComparable(f"too few rows to tell: {shared.text}")
    new, old = [await _score(model, shared, servers) for model in (candidate, champion)]
    if all(isinstance(answer, str) for answer in (*new.predicted, *old.predicted)):
        return Scores(shared, new, old)
    # Numbers in the data of one may be texts in those of the other.
    return Scores(shared, _normalize_answers(new), _normalize_answers(old))


def _normalize_answers(model: Evaluation) -> Evaluation:
    return replace(
        model,
        actual=list(map(normalize, model.actual)),
        predicted=list(map(normalize, model.predicted)),
    )


async def measure_latencies(
    candidate: Model, champion: Model, servers: Servers
) -> tuple[float, float]:
    """Return the milliseconds that both models take for one row: medians of requests in turns.

    Raises:
        NotComparable: A model cannot be started or does not answer.
        TerminalError: The packages of one cannot be installed.
    """
    clients = [await servers.client_of(model) for model in (candidate, champion)]
    rows = [model.package.golden["inputs"][:1] for model in (candidate, champion)]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMED):
        for client, row, measured in zip(clients, rows, times, strict=True):
            started = time.perf_counter()
            await ask(client, "predict", row)
            measured.append(1000 * (time.perf_counter() - started))
    # The first ones fill caches.
    return median(times[0][_TIMED // 5 :]), median(times[1][_TIMED // 5 :])


async def try_behaviour(
    candidate: Model, tests: Sequence[Behaviour], servers: Servers
) -> list[float]:
    """Return the share of the candidate's test rows that each test of behaviour breaks on.

    Raises:
        NotComparable: It cannot be started, does not answer, or lacks what a test names.
        TerminalError: Its packages cannot be installed.
    """
    read = (candidate.data.inputs.convert(row) for row in read_rows(candidate.data.test))
    rows = list(islice((row for row in read if row), _TRIED))
    client = await servers.client_of(candidate)
    shares = []
    for test in tests:
        if test.column not in candidate.data.inputs.types:
            raise NotComparable(f"the candidate has no column {test.column!r} (gate.behaviour)")
        pairs = change_rows(test, rows)
        method = "predict_proba" if test.label else "predict"
        before, after = [
            await ask(client, method, [candidate.shape(row) for row in side])
            for side in (zip(*pairs, strict=True) if pairs else ((), ()))
        ]
        if test.label:
            position = _position(candidate, test.label)
            before, after = [[shares[position] for shares in side] for side in (before, after)]
        elif test.expect != "same" and any(isinstance(answer, str) for answer in before):
            raise NotComparable(
                f"classes have no order: set a label for {test.column!r} (gate.behaviour)"
            )
        shares.append(share_broken(test, before, after))
    return shares


def _position(model: Model, label: str) -> int:
    labels = [normalize(one) for one in model.classes]
    if "predict_proba" not in model.package.golden["outputs"] or normalize(label) not in labels:
        raise NotComparable(f"the candidate gives no probability of {label!r} (gate.behaviour)")
    return labels.index(normalize(label))


async def load_model(workspace: Workspace) -> Model:
    """Bring a model's bytes and data to this host.

    Raises:
        NotComparable: It was saved before the types of columns were recorded.
        TerminalError: Its commit has no saved model, or an object of it is nowhere.
    """
    package = read_package(workspace)
    runtime = json.loads(package.files[2].read_text())
    if not runtime.get("columns"):
        raise NotComparable(f"{package.label} was saved without the types of its columns")
    inputs = Inputs(runtime["columns"], frozenset(runtime["nullable"]))
    train, test = [await fetch_output(workspace, path) for path in (_TRAIN, TEST)]
    file = await fetch_output(workspace, package.artifact)
    await verify_artifact(package, file)
    data = Data(train, test, str(workspace.parameters["data"]["target"]), inputs)
    return Model(package, file, data, runtime.get("classes") or (), read_keys(workspace))


async def _score(model: Model, shared: SharedRows, servers: Servers) -> Evaluation:
    rows = [model.shape(model.data.inputs.convert(row) or {}) for row in shared.rows]
    texts = [row[model.data.target] for row in shared.rows]
    client = await servers.client_of(model)
    answers = await ask(client, "predict", rows)
    losses = None
    if "predict_proba" in model.package.golden["outputs"]:
        losses = _log_losses(model, texts, await ask(client, "predict_proba", rows))
    return Evaluation({}, "", texts, answers, losses, find_groups(shared.rows, model.keys))


def _log_losses(
    model: Model, texts: Sequence[str], answers: Sequence[Sequence[float]]
) -> list[float] | None:
    """Return minus the logarithm of the probability of each row's class."""
    labels = [normalize(label) for label in model.classes]
    losses = []
    for text, shares in zip(texts, answers, strict=True):
        label = normalize(text)
        share = shares[labels.index(label)] if label in labels else 0.0
        losses.append(-math.log(min(1.0, max(share, _LEAST_PROBABILITY))))
    return losses if labels else None


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
    bundle = await stage(
        model.package, model.file, folder, environment="gate", identifier=model.package.commit[:12]
    )
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
        if answer.status_code != 200:
            # Without its words, which may have values of the row.
            raise NotComparable(f"a model server refused rows with status {answer.status_code}")
        answers += _read_answers(answer, len(batch))
    return answers


def _read_answers(answer: httpx.Response, rows: int) -> list[Any]:
    """Read the answers to rows: the model's code, which is of a commit, may have written them."""
    try:
        answers = answer.json()
    except ValueError:
        answers = None
    if not isinstance(answers, list) or len(answers) != rows:
        raise NotComparable(f"a model does not give one answer to each of {rows} rows")
    return answers
