"""Shadow traffic with real clients: a new version is asked the same, and nobody notices."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tasks.core.errors import TerminalError
from tasks.core.tls import ssl_context
from tasks.monitoring.records import SHADOW
from tasks.monitoring.shadow import compare
from tasks.package.package import Package, make_body
from tasks.platforms.base.shadow import ShadowRules
from tasks.platforms.host.counters import Counters
from tasks.platforms.host.gateway import Gateway
from tasks.platforms.host.host_target import GatewaySettings
from tasks.platforms.host.records import RecordReader
from tasks.platforms.host.route import Route
from tasks.platforms.host.shadow import choose_percent
from tests.code.platforms.bad_models import answer_clients_otherwise
from tests.code.platforms.places import Place


@pytest.fixture
def gateway(process_place: Place) -> Gateway:
    """The proxy in front of the place."""
    host = GatewaySettings()  # type: ignore[call-arg]  # from the environment
    return Gateway(host.gateway, host.gateway_api, process_place.environment.name)


async def _ask_with_id(url: str, model: Package, identifier: str) -> None:
    body = make_body(model.golden["inputs"][:1])
    async with httpx.AsyncClient(base_url=url, trust_env=False, verify=ssl_context()) as client:
        answer = await client.post("/predict", json=body, headers={"X-Request-Id": identifier})
        assert answer.headers.get_list("x-request-id") == [identifier]


async def test_new_version_is_asked_what_clients_ask(
    process_place: Place,
    models: list[Package],
    make_package: Callable[..., Package],
    gateway: Gateway,
    home: Path,
) -> None:
    live = await process_place.ensure_live(models)
    other = make_package("other", **{"serving/predictor.py": answer_clients_otherwise})
    file = other.workspace.path / "model" / "wine"
    with process_place.traffic(live) as traffic:
        before = await process_place.snapshot()
        killed = process_place.target(shadow=ShadowRules(time="1h"))
        staged = await killed.preflight(other, file, "v1")
        mirroring = asyncio.create_task(killed.shadow(staged, ()))
        while not gateway.mirrored_percent():
            assert not mirroring.done(), mirroring.exception()
            await asyncio.sleep(0.1)
        # The live version answers everybody, and is what the platform calls live.
        assert (await process_place.live_version())["commit"] == live.commit
        status = await process_place.target().status()
        assert status
        assert status.runs(live)
        mirroring.cancel()
        await asyncio.gather(mirroring, return_exceptions=True)
        assert gateway.mirrored_percent() is None
        assert (await process_place.snapshot())["servers"] == before["servers"]

        target = process_place.target(shadow=ShadowRules(requests=20))
        mirroring = asyncio.create_task(target.shadow(staged, ()))
        while not gateway.mirrored_percent():
            assert not mirroring.done(), mirroring.exception()
            await asyncio.sleep(0.1)
        number = 0
        while not mirroring.done():  # the other clients may be through with 20 requests at once
            number += 1
            await _ask_with_id(process_place.url, live, f"request-{number}")
        records = await mirroring
    assert traffic.failures == []
    assert records
    report = compare(records, tolerance=0.0)
    assert report.rows >= 20
    assert report.lost == 0
    assert records.sent >= report.new.requests > 0
    assert 1 <= report.by_id <= number
    assert report.disagreement == 1.0
    assert {(item.live, item.new) for item in report.largest} == {(0, 2)}
    assert (await process_place.snapshot())["servers"] == before["servers"]
    assert list((home / "spool" / "wine" / "process" / SHADOW).glob("*.jsonl"))
    await target.rollback(staged)
    await process_place.assert_live(live)


async def test_version_that_crashes_under_shadow_leaves_nothing(
    process_place: Place,
    models: list[Package],
    gateway: Gateway,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = await process_place.ensure_live(models)
    before = await process_place.snapshot()

    async def refuse(*_: object) -> None:
        raise TerminalError("it predicts otherwise")

    target = process_place.target(shadow=ShadowRules(time="5s"))
    other = next(item for item in models if item is not live)
    staged = await target.preflight(other, other.workspace.path / "model" / "wine", "v1")
    monkeypatch.setattr("tasks.platforms.host.host_target.prove", refuse)
    with pytest.raises(TerminalError, match="predicts otherwise"):
        await target.shadow(staged, ())
    assert gateway.mirrored_percent() is None
    await target.rollback(staged)
    assert await process_place.snapshot() == before
    await process_place.assert_live(live)


@pytest.mark.parametrize(
    ("requests", "milliseconds", "percent"),
    [(0, 0.0, 100), (20, 2.0, 100), (100, 2.0, 100), (200, 2.0, 50), (5, 80.0, 50), (9000, 9.0, 1)],
)
def test_mirrored_requests_take_no_more_than_their_share_of_the_processors(
    requests: int, milliseconds: float, percent: int
) -> None:
    counters = Counters(10 * requests, 0, 10 * requests * milliseconds / 1000)
    assert choose_percent(counters, 10.0, 0.2) == percent


def test_requests_without_a_record_are_not_mirrored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gateway, "_wait", lambda *_: None)
    live, new = Route("live", (1,)), Route("new", (2,))
    Gateway(tmp_path, "http://127.0.0.1:1", "local").mirror(live, new, 50)
    router = json.loads((tmp_path / "local.yml").read_text())["http"]["routers"]["local~shadow"]
    paths = "Path(`/predict`) || Path(`/predict_proba`) || Path(`/invocations`)"
    assert router["rule"] == f"Method(`POST`) && ({paths})"


def test_reader_follows_what_is_written_and_taken_away(tmp_path: Path) -> None:
    old, new = tmp_path / "a.jsonl", tmp_path / "b.jsonl.part"
    old.write_bytes(b"before\n")
    (tmp_path / "c.jsonl").symlink_to("/etc/passwd")
    with RecordReader(tmp_path, 1 << 20) as reader:
        new.write_bytes(b"one\ntw")
        reader.read()
        with new.open("ab") as file:
            complete = new.rename(tmp_path / "b.jsonl")
            file.write(b"o\nthree\n")
        complete.unlink()
        reader.read()
        reader.read()
    assert reader.lines == [b"one", b"two", b"three"]


def test_reader_keeps_up_with_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.platforms.host.records._MOST_FILES", 2)
    with RecordReader(tmp_path, 1 << 20) as reader:
        for number in range(9):
            file = tmp_path / f"{number}.jsonl"
            file.write_bytes(b"%d\n" % number)
            reader.read()
            file.unlink()
            reader.read()
    assert reader.lines == [b"%d" % number for number in range(9)]


def test_reader_does_not_fill_the_memory(tmp_path: Path) -> None:
    """Nobody has released the code of a new version, which can write into its folder."""
    with RecordReader(tmp_path, 3 << 20) as reader:
        with (tmp_path / "a.jsonl").open("wb") as file:
            file.truncate(1 << 40)
        reader.read()
        reader.read()
    assert reader.size <= 4 << 20
