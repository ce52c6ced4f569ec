"""Candidate and champion, each served with its own bytes and packages, answer the same rows.

Both are started in the sandbox, as preflight starts a release, and asked as clients ask them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from statistics import median
from typing import Any

import httpx

from tasks.training.behaviour import change_rows, share_broken
from tasks.training.dossier import Dummy
from tasks.training.evidence import Evaluation, measure, weigh_answers
from tasks.training.probabilities import LEAST_PROBABILITY, measure_probabilities
from tasks.training.rows import (
    LEAST_ROWS,
    Row,
    SharedRows,
    find_groups,
    normalize,
    read_header,
    read_rows,
    read_share,
    share_rows,
)
from tasks.training.rules import Behaviour, MetricRule
from tasks.training.served import Model, NotComparable, Servers, ask, ask_shares

_TIMED = 100  # requests to each server, for their median
_TRIED = 500  # rows of a test of behaviour
_MOST_LOST = 0.05  # share of its own test rows, or the champion's, that a candidate may refuse


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


async def score_alone(model: Model, servers: Servers) -> Evaluation:
    """Have a model answer its own test rows; of very many, an even share.

    Raises:
        NotComparable: It has none, refuses many, cannot be started, or does not answer.
        TerminalError: Its packages cannot be installed.
    """
    read = await asyncio.to_thread(read_share, model.data.test)
    rows = [row for row in read if model.data.inputs.convert(row) is not None]
    if len(rows) < max(1, (1 - _MOST_LOST) * len(read)):
        label = model.package.label
        raise NotComparable(f"{label} accepts only {len(rows)} of its own {len(read)} test rows")
    (own,) = _align(await _score(model, rows, model.data.keys, servers))
    return own


async def score_both(
    candidate: Model, champion: Model, servers: Servers, *, keeps_sides: bool
) -> Scores:
    """Have both models answer the test rows of both.

    Args:
        candidate: The candidate.
        champion: The champion.
        servers: Their servers.
        keeps_sides: Whether the champion's test rows have to be none that the candidate was
            trained on.

    Raises:
        NotComparable: Too few rows are left, or a model cannot be started or does not answer.
        TerminalError: The packages of one cannot be installed.
        TransientError: The package index does not answer.
    """
    if candidate.data.target != champion.data.target:
        raise NotComparable("the two models predict different columns")
    if lacking := set(champion.data.keys) - set(read_header(candidate.data.train)):
        names = ", ".join(sorted(lacking))
        raise NotComparable(
            f"the candidate's data lack {names}, by which the champion's rows are grouped"
        )
    shared = await asyncio.to_thread(share_rows, candidate.data, champion.data)
    if len(shared.rows) < LEAST_ROWS:
        raise NotComparable(f"too few rows to tell: {shared.text}")
    keeps_sides |= list(candidate.data.keys) != list(champion.data.keys)
    if keeps_sides and 2 * len(shared.former) < shared.former_count:
        # Who chooses the split anew also chooses which of the champion's rows are left.
        raise NotComparable(
            f"only {len(shared.former)} of the champion's {shared.former_count} test rows are left:"
            " the candidate was trained on the others, or refuses them"
        )
    if shared.lost_count > _MOST_LOST * shared.former_count:
        raise NotComparable(
            f"the candidate refuses {shared.lost_count} of the champion's {shared.former_count}"
            " test rows, which the champion accepts"
        )
    keys = candidate.data.keys or champion.data.keys
    new, old = [await _score(model, shared.rows, keys, servers) for model in (candidate, champion)]
    return Scores(shared, *_align(new, old))


def measure_dummy(model: Model, own: Evaluation, rule: MetricRule) -> Dummy | None:
    """Score a dummy on a model's own test rows: it answers the most frequent class, or the mean.

    Args:
        model: The model.
        own: Its answers to its test rows.
        rule: The rule by which it is judged.

    Returns:
        The dummy; None if the metric does not follow from answers.
    """
    write = str if set(model.classes) & set(own.actual) else normalize  # as the answers are
    answers = [write(row[model.data.target]) for row in read_rows(model.data.train)]
    losses = None
    if model.classes:
        counts = Counter(answers)
        answer = min(counts, key=lambda label: (-counts[label], label))
        shares = {label: count / len(answers) for label, count in counts.items()}
        losses = [-math.log(shares.get(label, LEAST_PROBABILITY)) for label in own.actual]
    else:
        answer = repr(math.fsum(map(float, answers)) / len(answers))
    predicted = [answer] * len(own.actual)
    dummy = replace(own, predicted=predicted, losses=losses if own.losses else None, squares=None)
    value = measure(rule.metric, dummy)
    if value is None:
        return None
    comparison = weigh_answers(own, dummy, rule.metric, more_is_better=rule.more_is_better)
    return Dummy(answer, {rule.metric: value}, comparison)


def _align(*models: Evaluation) -> tuple[Evaluation, ...]:
    """Write values alike: numbers in the data of one model may be texts in those of the other."""
    if all(isinstance(answer, str) for model in models for answer in model.predicted):
        return models
    return tuple(
        replace(
            model,
            actual=list(map(normalize, model.actual)),
            predicted=list(map(normalize, model.predicted)),
        )
        for model in models
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
        before, after = [
            await _answer_test(candidate, test, [candidate.shape(row) for row in side], client)
            for side in (zip(*pairs, strict=True) if pairs else ((), ()))
        ]
        shares.append(share_broken(test, before, after))
    return shares


async def _answer_test(
    model: Model, test: Behaviour, rows: Sequence[Any], client: httpx.AsyncClient
) -> list[Any]:
    """Return what a test of behaviour is about: the answers, or the probabilities of its label."""
    if test.label:
        position = _position(model, test.label)
        return [shares[position] for shares in await ask_shares(client, rows, len(model.classes))]
    answers = await ask(client, "predict", rows)
    if test.expect != "same" and not all(isinstance(answer, int | float) for answer in answers):
        raise NotComparable(
            f"classes have no order: set a label for {test.column!r} (gate.behaviour)"
        )
    return answers


def _position(model: Model, label: str) -> int:
    labels = [normalize(label) for label in model.classes]
    if "predict_proba" not in model.package.golden["outputs"] or normalize(label) not in labels:
        raise NotComparable(f"the candidate gives no probability of {label!r} (gate.behaviour)")
    return labels.index(normalize(label))


async def _score(
    model: Model, shared: Sequence[Row], keys: Sequence[str], servers: Servers
) -> Evaluation:
    rows = [model.shape(model.data.inputs.convert(row) or {}) for row in shared]
    texts = [row[model.data.target] for row in shared]
    client = await servers.client_of(model)
    answers = await ask(client, "predict", rows)
    losses = squares = shares = None
    if "predict_proba" in model.package.golden["outputs"] and model.classes:
        shares = await ask_shares(client, rows, len(model.classes))
        losses, squares = measure_probabilities(model.classes, texts, shares)
    groups = find_groups(shared, keys)
    return Evaluation(
        {}, "", texts, answers, losses, squares, groups, shares=shares, classes=model.classes
    )
