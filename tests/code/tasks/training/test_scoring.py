"""Champion and candidate answer the same rows, each with its own bytes, packages and columns."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import httpx
import pytest

from deployments.ci.scoring import score
from tasks.core.settings import CHECKOUT
from tasks.package.package import Package, read_metrics, verify_artifact
from tasks.package.runtime import make_runtime
from tasks.repository.versions import Version
from tasks.repository.workspace import Workspace, check_out
from tasks.training.code_tests import run_tests
from tasks.training.dossier import Evidence
from tasks.training.gate import Verdict, judge
from tasks.training.rows import Data, Inputs, find_groups, find_step, share_rows
from tasks.training.rules import Rules, TrustedRules
from tasks.training.scoring import score_alone, score_both
from tasks.training.served import (
    Files,
    Model,
    NotComparable,
    Servers,
    ask,
    ask_shares,
    load_model,
    serve_model,
)
from tasks.training.trials import Pair, try_models
from tasks.training.verdict import judge_commit
from tests.code.cutoffs import CUTOFFS
from tests.code.light_model import write_light_model
from tests.commits import commit_all

Row = tuple[float, float, int]
_RULES = Rules.model_validate(
    {
        "metric": "accuracy",
        "minimum": 0.5,
        "tolerance": 0.01,
        "also": [{"metric": "log_loss", "maximum": 9}],
        "slices": ["alcohol < 12.2", "proline < 0"],
        "latency": "900 %",
        "behaviour": [
            {"column": "proline", "expect": "same"},
            {"column": "alcohol", "expect": "not lower", "label": "2"},
        ],
    }
)


def _rows(first: int, count: int) -> list[Row]:
    """Make rows that the light model answers rightly, one in ten excepted."""
    rows = []
    for number in range(first, first + count):
        alcohol = 11 + (number * 37 % 300) / 100
        label = sum(alcohol >= cut for cut in CUTOFFS)
        rows.append((alcohol, 500.0 + number, (label + 1) % 3 if number % 10 == 0 else label))
    return rows


def _write_rows(folder: Path, **splits: Sequence[Row]) -> None:
    (folder / "data").mkdir(exist_ok=True)
    for name, rows in splits.items():
        with (folder / "data" / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("alcohol", "proline", "target"), *rows])


def _commit(folder: Path, cuts: tuple[float, float], **splits: Sequence[Row]) -> Workspace:
    """Commit a model that states the same accuracy as any other."""
    shutil.rmtree(folder / "model", ignore_errors=True)
    write_light_model(folder / "model", "wine", cuts=cuts)
    _write_rows(folder, **splits)
    runtime = json.loads((folder / "model" / "wine.runtime.json").read_text())
    md5 = runtime["artifacts"]["model/wine"]["md5"]
    for path, value in {
        "dvc.lock": {"stages": {"save": {"outs": [{"path": "model/wine", "md5": md5}]}}},
        "params.yaml": {"name": "wine", "data": {"target": "target"}},
        "reports/metrics.json": {"accuracy": 0.9, "log_loss": 3.0},
    }.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(json.dumps(value))
    return Workspace(folder, commit_all(folder, f"Cut at {cuts}"), "main")


@pytest.fixture
def ask_gate(
    tmp_path: Path, make_home: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Awaitable[Verdict]]:
    """Return a function that commits a champion and a candidate, and asks the gate."""
    origin = tmp_path / "origin"
    shutil.copytree(
        CHECKOUT / "serving", origin / "serving", ignore=shutil.ignore_patterns("__pycache__")
    )
    monkeypatch.setenv("SLIPWAY_HOME", str(make_home("gate")))
    monkeypatch.setenv("SLIPWAY_ORIGIN", str(origin))
    # Outside of a flow a task would start a Prefect server; what it does is the same without.
    monkeypatch.setattr("tasks.repository.workspace.check_out", check_out.fn)
    plain = partial(Files, verify=verify_artifact.fn, make_python=make_runtime.fn)
    monkeypatch.setattr("tasks.training.served.Files", plain)

    async def ask(
        cuts: tuple[float, float],
        *,
        train: Sequence[Row],
        test: Sequence[Row],
        is_required: bool = False,
    ) -> Verdict:
        champion = _commit(origin, CUTOFFS, train=_rows(0, 160), test=_rows(160, 40))
        candidate = _commit(origin, cuts, train=train, test=test)
        trusted = TrustedRules("local", _RULES, origin / "params.yaml", is_required=is_required)
        version = Version("v0.0.1", champion.commit)
        return await judge_commit(candidate, read_metrics(candidate), version, trusted)

    return ask


async def test_easier_test_split_lets_nothing_worse_through(
    ask_gate: Callable[..., Awaitable[Verdict]],
) -> None:
    """Data have grown: both state an accuracy of 0.9, each on its own rows."""
    verdict = await ask_gate(
        (12.2, 13.8),
        train=_rows(30, 130),
        test=[*_rows(0, 30), *_rows(200, 100)],
        is_required=True,
    )
    assert not verdict.passed
    assert "states accuracy 0.9000, its answers to 130 test rows give 0.7" in verdict.text
    finding, former, losses, part = verdict.findings
    assert (finding.word, finding.comparison.rows) == ("worse", 140)
    assert (former.metric, former.comparison.rows) == ("accuracy on the champion's test rows", 40)
    assert (losses.metric, losses.word) == ("log_loss", "worse"), "one for each wrong answer"
    assert (part.metric, part.comparison.gain) == ("accuracy where alcohol < 12.2", 0)
    assert "none of 1 slices is worse" in verdict.text
    assert "latency" in verdict.text
    assert (
        "the answer stays the same for other values of proline in 100.0% of the rows"
        in verdict.text
    )
    assert (
        "the probability of 2 is not lower for greater values of alcohol in 100.0%" in verdict.text
    )
    assert finding.comparison.values == (pytest.approx(0.73, abs=0.01), pytest.approx(0.9))
    assert (
        "on 140 test rows of either, scored by both, without 30 that one of them was trained on,"
        in verdict.text
    )
    assert verdict == Verdict.parse(json.loads(json.dumps(asdict(verdict))))


async def test_pull_request_that_forges_its_metrics_is_scored_all_the_same(
    ask_gate: Callable[..., Awaitable[Verdict]], tmp_path: Path
) -> None:
    """Both state 0.9, on the same rows; without the files, nothing is claimed."""
    origin = tmp_path / "origin"
    rows = {"train": _rows(0, 160), "test": _rows(160, 40)}
    base = _commit(origin, CUTOFFS, **rows)
    head = _commit(origin, (12.2, 13.8), **rows)
    rules = Rules(metric="accuracy", minimum=0.9)
    metrics = read_metrics(head)
    scored = await score(head, base.commit, rules, Evidence())
    verdict = judge(metrics, metrics, rules, evidence=scored)
    assert (verdict.passed, verdict.is_scored) == (False, True)
    assert "its answers to 40 test rows give 0.7" in verdict.text
    assert verdict.findings[0].comparison.rows == 40
    assert not (origin / "gate").exists()
    runtime = origin / "model" / "wine.runtime.json"
    saved = runtime.read_text()
    facts = json.loads(saved)
    facts["artifacts"]["model/wine"]["sha256"] = "0" * 64
    runtime.write_text(json.dumps(facts))
    broken = await score(head, base.commit, rules, Evidence())
    assert not judge(metrics, metrics, rules, evidence=broken).passed, "as a deploy would find"
    runtime.write_text(saved)
    (origin / "data" / "train.csv").unlink()
    early = await score(head, base.commit, rules, Evidence())
    verdict = judge(metrics, metrics, rules, evidence=early)
    assert (verdict.passed, verdict.is_scored) == (True, False)
    assert "data/train.csv of wine" in verdict.text
    unchanged = await score(head, head.commit, rules, Evidence())
    assert (unchanged.is_same_model, unchanged.is_early) == (True, False)


_TESTS = """
import sys
import pytest

def test_more_alcohol_is_no_lower_class(trained, served):
    rows = trained.rows("test")[:5]
    more = [{**row, "alcohol": row["alcohol"] + 1} for row in rows]
    for before, after in zip(served.predict(rows), served.predict(more), strict=True):
        assert after >= before

def test_metrics_are_good(trained):
    assert trained.metrics["accuracy"] > 0.95

@pytest.mark.parametrize(
    "path", ["difflib.py", "data/test.csv", "data/new.csv", "tests/model/test_wine.py"]
)
def test_code_of_the_model_changes_nothing_that_is_read_here(path):
    with pytest.raises(OSError):
        open(path, "a")
    assert "" not in sys.path
"""


@pytest.mark.usefixtures("ask_gate")
async def test_tests_that_are_code_run_in_the_sandbox(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    (origin / "tests" / "model").mkdir(parents=True)
    (origin / "tests" / "model" / "test_wine.py").write_text(_TESTS)
    (origin / "reports").mkdir()
    columns = {name: {"dtype": "float64"} for name in ("alcohol", "proline")}
    report = {"columns": columns, "target": {"dtype": "int64"}}
    (origin / "reports" / "data.json").write_text(json.dumps(report))
    workspace = _commit(origin, CUTOFFS, train=_rows(0, 60), test=_rows(160, 40))
    failed = await run_tests(await load_model(workspace), workspace)
    assert failed == ["tests/model/test_wine.py::test_metrics_are_good"]


async def test_output_of_a_model_is_no_heading_of_the_report() -> None:
    async def fail() -> Model:
        raise NotComparable("the server did not get ready: bad\n\n# wine: passed")

    rules = Rules(metric="accuracy")
    evidence = await try_models(Pair(fail, None), rules, Evidence(needs_scores=True))
    [reason, *_] = judge({"accuracy": 1.0}, None, rules, evidence=evidence).reasons
    assert "ready: bad # wine: passed; the metrics" in reason


async def test_too_few_rows_are_inconclusive(
    ask_gate: Callable[..., Awaitable[Verdict]],
) -> None:
    """Nothing is started: the candidate was trained on what the champion was tested on."""
    verdict = await ask_gate((12.2, 13.8), train=_rows(30, 170), test=_rows(20, 25))
    assert not verdict.passed, "as they state it, they are equal"
    assert "too few rows to tell: 0 test rows" in verdict.text


@pytest.fixture
def data(tmp_path: Path) -> Data:
    _write_rows(tmp_path, train=[], test=[(12.0, 500.0, 1), (13.0, 501.0, 2)])
    inputs = Inputs({"alcohol": "number", "proline": "number"}, frozenset())
    return Data(tmp_path / "data/train.csv", tmp_path / "data/test.csv", "target", inputs)


def test_rows_that_one_model_does_not_take_are_left_out(data: Data, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("proline,target,alcohol\n501,2.0,13.0\n,1,11.5\n502.5,1,11.0\n")
    whole = replace(data, inputs=Inputs({"alcohol": "number", "proline": "integer"}, frozenset()))
    candidate = replace(data, test=new, inputs=Inputs(data.inputs.types, frozenset({"proline"})))
    shared = share_rows(candidate, whole)
    # 13.0 is the champion's, written otherwise; it takes neither a missing proline nor 502.5.
    assert [row["alcohol"] for row in shared.rows] == ["12.0", "13.0"]
    assert (shared.former, shared.former_count) == ([0, 1], 2)
    assert (shared.trained_count, shared.refused_count) == (0, 2)


def test_rows_that_are_alike_count_as_often_as_there_are(data: Data, tmp_path: Path) -> None:
    """A table of few columns has most rows several times, by `random` on both sides."""
    alike: Row = (12.0, 500.0, 1)
    _write_rows(tmp_path, train=[alike], test=[alike] * 30)
    assert len(share_rows(replace(data), data).rows) == 30
    other = tmp_path / "other.csv"
    other.write_text("alcohol,proline,target\n11.0,500.0,0\n")
    champion = replace(data, train=other)
    assert share_rows(data, champion).trained_count == 30, "one of the two was trained on them"
    grown = tmp_path / "grown.csv"
    grown.write_text("alcohol,proline,target\n" + "12.0,500.0,1\n" * 40)
    shared = share_rows(replace(champion, test=grown), champion)
    assert (len(shared.rows), len(shared.former)) == (40, 30)


def test_of_many_or_wide_rows_a_share_is_taken(tmp_path: Path) -> None:
    """300 columns of 50,000 rows would take 3 GB."""
    for columns, rows, step in ((3, 49_000, 1), (3, 51_000, 2), (300, 9_900, 1), (300, 29_000, 3)):
        file = tmp_path / f"{columns}-{rows}.csv"
        file.write_text(",".join(map(str, range(columns))) + "\n" * rows)
        assert find_step([file]) == step


def test_model_is_not_asked_about_rows_without_its_columns(data: Data, tmp_path: Path) -> None:
    wide = tmp_path / "wide.csv"
    wide.write_text("alcohol,proline,hue,target\n12.0,500.0,1.1,1\n11.0,400.0,1.2,0\n")
    more = {**data.inputs.types, "hue": "number"}
    candidate = replace(data, test=wide, inputs=Inputs(more, frozenset()))
    shared = share_rows(candidate, data)
    assert [row["hue"] for row in shared.rows] == ["1.1", "1.2"], "those of the candidate alone"
    other = replace(data, inputs=Inputs({"ash": "number"}, frozenset()))
    assert not share_rows(candidate, other).rows, "each lacks a column of the other"


async def test_model_is_served_again_when_the_gate_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first try may have ended at another model, by an outage of the bucket."""

    def make_bundle(_: Package, _file: Path, _python: Path, folder: Path, **names: str) -> None:
        (folder / names["identifier"]).mkdir(parents=True)  # a bundle is made once

    async def make_python(_: Package) -> Path:
        return tmp_path

    @asynccontextmanager
    async def run_server(*_: object) -> AsyncIterator[tuple[str, None]]:
        yield "http://model", None

    async def be_ready(*_: object) -> None:
        pass

    monkeypatch.setattr("tasks.training.served.make_bundle", make_bundle)
    monkeypatch.setattr("tasks.training.served.run_server", run_server)
    monkeypatch.setattr("tasks.training.served._wait_until_ready", be_ready)
    workspace = Workspace(tmp_path, "1f0c72c", "main")
    package = Package(workspace, "wine", "1f0c72c", "", "", 0, "3.11", {}, {}, "")
    data = Data(tmp_path, tmp_path, "target", Inputs({}, frozenset()))
    model = Model(package, tmp_path, data, (), make_python)
    for _ in range(2):
        async with serve_model(model):
            pass


@pytest.mark.parametrize("body", [b"[1]", b"[1, 2, 3]", b'{"a": 1}', b"<html>"])
async def test_model_that_does_not_answer_each_row_is_not_comparable(body: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
        with pytest.raises(NotComparable, match="a model"):
            await ask(client, "predict", [[1.0], [2.0]])


@pytest.mark.parametrize(
    "shares", ["[1, 1]", "[NaN, 1]", "[1]", "[2, -1]", "1", '["0", 1]', "[0.4, 0.4]", "null"]
)
async def test_only_probabilities_are_taken_for_some(shares: str) -> None:
    """By 1 for each class, the log loss of a model that knows nothing would be 0."""
    body = f"[[0.25, 0.75], {shares}]".encode()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
        with pytest.raises(NotComparable, match="the probabilities of its 2 classes"):
            await ask_shares(client, [[1.0], [2.0]], 2)


async def test_rows_of_long_texts_are_asked_about_in_smaller_batches() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        rows = json.loads(request.content)["data"]
        return httpx.Response(413) if len(rows) > 3 else httpx.Response(200, json=rows)

    rows = [[f"text {number}"] for number in range(10)]
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(answer), base_url="http://model"
    ) as client:
        assert await ask(client, "predict", rows) == rows


def test_row_with_a_date_is_known_however_precisely_it_is_written(tmp_path: Path) -> None:
    """A row with a time of day has a stage write all dates of the table with one."""
    old, grown = tmp_path / "old.csv", tmp_path / "grown.csv"
    old.write_text("sold,target\n2024-01-31,1\n2024-02-01,2\n")
    grown.write_text("sold,target\n2024-01-31 00:00:00,1\n2024-03-01 12:30:00,2\n")
    inputs = Inputs({"sold": "datetime"}, frozenset())
    champion = Data(train=old, test=old, target="target", inputs=inputs)
    shared = share_rows(replace(champion, train=old, test=grown), champion)
    assert [row["sold"] for row in shared.rows] == ["2024-03-01 12:30:00"]


def test_group_that_one_model_was_trained_on_is_left_out(tmp_path: Path) -> None:
    """Two seeds put the same customers on other sides: none of their rows is new to both."""

    def write(name: str, customers: str, first: int) -> Path:
        file = tmp_path / f"{name}.csv"
        rows = [f"{first + at},{customer},1" for at, customer in enumerate(customers)]
        file.write_text("\n".join(["x,customer,target", *rows, ""]))
        return file

    inputs = Inputs({"x": "number"}, frozenset())
    champion = Data(write("a", "aabb", 0), write("b", "ccdd", 10), "target", inputs, ["customer"])
    candidate = Data(write("c", "bbcc", 20), write("d", "aade", 30), "target", inputs, ["customer"])
    shared = share_rows(candidate, champion)
    assert sorted(row["customer"] for row in shared.rows) == ["d", "d", "d", "e"]
    assert (shared.trained_count, len(shared.former), shared.former_count) == (4, 2, 4)

    unknown = tmp_path / "unknown.csv"
    unknown.write_text("x,target\n50,1\n")
    random = replace(candidate, test=unknown, keys=())
    assert share_rows(random, champion).ungrouped_count == 1


async def test_candidate_does_not_choose_which_rows_of_the_champion_are_left(
    tmp_path: Path,
) -> None:
    """It was trained on the hard ones, or refuses them."""

    def model(name: str, train: Sequence[Row], test: Sequence[Row], **types: str) -> Model:
        (tmp_path / name).mkdir()
        _write_rows(tmp_path / name, train=train, test=test)
        inputs = Inputs({"alcohol": "number", "proline": "number", **types}, frozenset())
        files = (tmp_path / name / "data" / f"{split}.csv" for split in ("train", "test"))
        package = Package(
            Workspace(tmp_path, name, "main"), "wine", name, "", "", 0, "", {}, {}, ""
        )
        return Model(package, tmp_path, Data(*files, "target", inputs), ())

    champion = model("champion", _rows(0, 10), _rows(160, 40))
    moved = model("moved", _rows(170, 30), [*_rows(160, 10), *_rows(300, 90)])
    servers = Servers(AsyncExitStack())  # of none is asked
    with pytest.raises(NotComparable, match="only 10 of the champion's 40 test rows are left"):
        await score_both(moved, champion, servers, keeps_sides=True)
    halves = [(row, 0.5 + at, label) for at, (row, _, label) in enumerate(_rows(160, 4))]
    picky = model("picky", [], _rows(300, 40), proline="integer")
    champion = model("other", _rows(0, 10), [*halves, *_rows(200, 40)])
    with pytest.raises(NotComparable, match="refuses 4 of the champion's 44 test rows"):
        await score_both(picky, champion, servers, keeps_sides=True)
    picky = model("picky alone", [], [*halves, *_rows(200, 40)], proline="integer")
    with pytest.raises(NotComparable, match="accepts only 40 of its own 44 test rows"):
        await score_alone(picky, servers)


def test_row_without_the_columns_of_a_group_is_one_of_its_own() -> None:
    rows = [{"customer": "a", "x": "1"}, {"customer": "a", "x": "2"}, {"x": "3"}, {"x": "4"}]
    groups = find_groups(rows, ["customer"])
    assert groups
    assert len(set(groups)) == 3
