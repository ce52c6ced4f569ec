"""The prediction log: what a record holds, what it leaves out, and what happens without a place."""

import json
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request

from serving.errors import RequestError
from serving.measure import Measure
from serving.metrics import Metrics
from serving.prediction_log import (
    MOST_BYTES,
    STATE,
    PredictionLog,
    keep,
    read_feedback,
)
from serving.records import Exchange, RecordWriter
from serving.settings import LogSettings, SettingError
from serving.spool import FILE_BYTES, Spool
from tasks.package.package import make_body
from tests.code.serving.running import ROOT, Server

_WAIT_SECONDS = 15
NO_ROWS = '{"data":{"values":[]}}'


@pytest.fixture(scope="module")
def logged(start, bundles, tmp_path_factory) -> Iterator[tuple[Server, Path]]:
    """A server that keeps all, in files that are complete after a moment."""
    folder = tmp_path_factory.mktemp("spool")
    with start(bundles / "wine", variables=variables(folder, seconds=0.1, feedback=True)) as server:
        yield server, folder


def variables(folder: Path, **settings: Any) -> dict[str, str]:
    text = json.dumps({"share": 1.0, **settings})
    return {"SLIPWAY_LOG": text, "SLIPWAY_LOG_FOLDER": str(folder)}


def read_records(folder: Path, identifier: str) -> list[dict[str, Any]]:
    """Read the records of a request from files that are whole; wait for the first."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
        if records := [r for r in map(json.loads, lines) if r["id"] == identifier]:
            return records
        time.sleep(0.05)
    raise AssertionError(f"no record of {identifier} in {sorted(folder.iterdir())}")


def count_records(server: Server) -> dict[str, float]:
    text = httpx.get(f"{server.url}/metrics").text
    return {
        sample.labels["result"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "slipway_serving_log_records_total"
    }


def test_prediction_is_kept_with_what_was_asked_and_answered(logged, golden):
    server, folder = logged
    rows = golden("wine")["inputs"][:2]
    trace = f"00-{'ab' * 16}-{'cd' * 8}-01"
    headers = {"X-Request-Id": "order-17", "traceparent": trace}
    answer = server.post("/predict", {"data": {"values": rows}}, headers=headers)
    assert answer.headers["x-request-id"] == "order-17"
    (record,) = read_records(folder, "order-17")
    data = record.pop("data")
    assert record.pop("time").endswith("Z")
    assert record == {
        "specversion": "1.0",
        "type": "slipway.prediction",
        "id": "order-17",
        "source": "/wine/test",
        "subject": "v1.2.0",
        "traceparent": trace,
    }
    assert data["inputs"] == rows
    assert data["outputs"] == answer.json()
    assert (data["method"], data["status"], data["version"]) == ("predict", 200, "v1.2.0")
    assert 0 < data["milliseconds"] < 30_000


def test_only_golden_rows_prove_a_deploy(logged, golden):
    server, folder = logged
    rows = golden("wine")["inputs"]
    for name, some, kind in (("a", rows, "proof"), ("b", rows[1:], "prediction")):
        headers = {"X-Request-Id": f"slipway-proof-{name}"}
        server.post("/predict", make_body(some), headers=headers)
        (record,) = read_records(folder, f"slipway-proof-{name}")
        assert record["type"] == f"slipway.{kind}"


def test_identifier_that_could_break_a_record_is_replaced(logged, golden):
    server, folder = logged
    body = {"data": {"values": golden("wine")["inputs"][:1]}}
    answers = [
        server.post("/predict_proba", body, headers={"X-Request-Id": name, "traceparent": "00-1"})
        for name in ('x","status":500', "a" * 200)
    ]
    for answer in answers:
        (record,) = read_records(folder, answer.headers["x-request-id"])
        assert record["data"]["probabilities"] == answer.json()
        assert "traceparent" not in record
    assert len({answer.headers["x-request-id"] for answer in answers}) == 2


def test_refusal_names_place_and_reason_without_values(logged, golden):
    server, folder = logged
    row = golden("wine")["inputs"][0]
    column = next(iter(row))
    answer = server.post("/predict", {"data": {"values": [row, {**row, column: "hush-1234"}]}})
    assert answer.status_code == 422
    (record,) = read_records(folder, answer.headers["x-request-id"])
    assert record["type"] == "slipway.refusal"
    assert record["data"]["problems"] == [{"row": 1, "column": column, "reason": "float_type"}]
    unknown = server.post("/predict", {"data": {"values": [{**row, "hush-1234": 1}]}})
    text = server.post("/predict", "hush-1234").headers["x-request-id"]
    typed = httpx.post(f"{server.url}/predict", content="hush-1234").headers["x-request-id"]
    for identifier in (unknown.headers["x-request-id"], text, typed):
        assert read_records(folder, identifier)[0]["data"]["problems"]
    assert not any("hush-1234" in path.read_text() for path in folder.iterdir())


def test_feedback_is_kept_under_its_prediction(logged):
    server, folder = logged
    answer = server.post("/feedback", {"id": "order-17", "actual": ["class_1", None, 2.5]})
    assert answer.status_code == 422
    answer = server.post("/feedback", {"id": "order-17", "actual": ["class_1", 2.5]})
    assert answer.status_code == 200
    (record,) = read_records(folder, answer.headers["x-request-id"])
    assert record["type"] == "slipway.feedback"
    assert record["data"]["prediction"] == "order-17"
    assert record["data"]["actual"] == ["class_1", 2.5]
    assert "/feedback" in httpx.get(f"{server.url}/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 60_000, 400),
        (b"[" * 100_000, 413),
        (b'{"id": "\\ud800", "actual": 1}', 400),
        (b'{"id": "a", "actual": "\\ud800"}', 400),
        (b'{"id": "a", "actual": 1%b}' % (b"0" * 400), 422),
        (b'{"id": "a", "actual": 1e999}', 422),
    ],
)
async def test_feedback_that_nobody_could_read_is_refused(body: bytes, status: int):
    async def receive():
        return {"type": "http.request", "body": body}

    with pytest.raises(RequestError) as refusal:
        await read_feedback(Request({"type": "http", STATE: make_exchange("")}, receive))
    assert refusal.value.status == status


def test_server_without_a_log_keeps_nothing(served, golden):
    body = {"data": {"values": golden("wine")["inputs"][:1]}}
    assert "x-request-id" not in served("wine").post("/predict", body).headers
    assert served("wine").post("/feedback", {"id": "a", "actual": 1}).status_code == 404


def test_records_outlive_a_stop(start, bundles, golden, tmp_path):
    body = {"data": {"values": golden("wine")["inputs"][:1]}}
    with start(bundles / "wine", variables=variables(tmp_path, seconds=600)) as server:
        identifiers = {server.post("/predict", body).headers["x-request-id"] for _ in range(20)}
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".jsonl"
    assert {json.loads(line)["id"] for line in path.read_text().splitlines()} == identifiers


def test_answers_go_on_without_a_place_for_records(start, bundles, golden, tmp_path):
    body = {"data": {"values": golden("wine")["inputs"][:1]}}
    folder = tmp_path / "spool"
    with start(bundles / "wine", variables=variables(folder)) as server:
        assert all(server.post("/predict", body).status_code == 200 for _ in range(5))
        deadline = time.monotonic() + _WAIT_SECONDS
        while count_records(server)["dropped: sink"] < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert count_records(server)["dropped: sink"] == 5
        assert server.log.count("the prediction log drops records") == 1
        folder.mkdir()  # the place is back
        identifier = server.post("/predict", body).headers["x-request-id"]
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
    assert len(read_records(folder, identifier)) == 1


def make_writer(
    private: tuple[str, ...] = (),
    key: bytes | None = None,
    words: tuple[str, ...] = (),
    private_beside: tuple[str, ...] = (),
    **interface: Any,
) -> RecordWriter:
    bundle = SimpleNamespace(
        name="wine",
        release={"version": "v1", "environment": "local", "commit": "c"},
        runtime={"private": list(private)},
        golden={"inputs": [{"ash": 1.5, "name": "x"}]},
    )
    columns = [SimpleNamespace(name=name, missing_words=words) for name in ("ash", "name")]
    settings: Any = {
        "columns": columns,
        "container": "dataframe",
        "methods": ("predict",),
        "wrap": lambda rows: {"data": {"values": rows}},
        "unwrap": lambda body: body["data"]["values"],
        **interface,
    }
    interface_of_rows: Any = SimpleNamespace(**settings)
    return RecordWriter(bundle, interface_of_rows, key, private_beside)  # type: ignore[arg-type]


def make_exchange(body: str, **values: Any) -> Exchange:
    facts = {"id": b"a", "traceparent": b"", "time": 0.0, "method": "predict", "status": 200}
    return Exchange(**{**facts, "body": body.encode(), "answer": b"[1]", **values})


def write_lines(writer: RecordWriter, *exchanges: Exchange) -> list[bytes]:
    copies = writer.copy_rows(exchanges)
    return [writer.write(*pair) for pair in zip(exchanges, copies, strict=True)]


def write_line(writer: RecordWriter, body: str, **values: Any) -> bytes:
    (line,) = write_lines(writer, make_exchange(body, **values))
    return line


# Each has the same row, to the server's own parser: of a name that stands twice, the last counts.
BODIES_OF_A_ROW = (
    '{"data":{"values":[{"ash":1.5,"name":"x"}]}}',
    ' {"data" :\r\n {"values": [ {"ash": 1.5,\n "name": "x"} ] } } ',
    '{"d\\u0061ta":{"values":[{"ash":1.5,"name":"x"}]}}',
    '{"data":{"values":[{"ash":0,"name":"no"}]},"d\\u0061ta":{"values":[{"ash":1.5,"name":"x"}]}}',
    '{"data":{"values":[{"ash":0,"name":"no"}],"values":[{"ash":1.5,"name":"x"}]}}',
    '{"data":0,"data":{"values":[{"ash":1.5,"name":"x"}]}}',
)


@pytest.mark.parametrize("body", BODIES_OF_A_ROW)
def test_inputs_are_those_that_the_model_saw(body: str):
    """Also beside any other request in a batch."""
    for other in BODIES_OF_A_ROW:
        lines = write_lines(
            make_writer(), make_exchange(body, id=b"1"), make_exchange(other, id=b"2")
        )
        assert [line.count(b"\n") for line in lines] == [1, 1]
        records = [json.loads(line) for line in lines]
        assert [record["data"]["inputs"] for record in records] == 2 * [[{"ash": 1.5, "name": "x"}]]
        assert [record["id"] for record in records] == ["1", "2"]
        assert records[0]["time"] == "1970-01-01T00:00:00.000Z"


def test_rows_without_names_become_objects():
    writer = make_writer(unwrap=lambda body: body["data"])
    line = write_line(writer, '{"data":[[1.5,"x"],[2.5,"y"]]}')
    assert json.loads(line)["data"]["inputs"] == [
        {"ash": 1.5, "name": "x"}, {"ash": 2.5, "name": "y"}
    ]  # fmt: skip


def test_private_columns_are_left_out_or_hashed():
    rows = [{"ash": 1.5, "name": "Ada"}, {"ash": 1, "name": "Ada"}, {"ash": 1, "name": None}]
    body = json.dumps({"data": {"values": rows}})
    line = write_line(make_writer(("name",)), body)
    assert json.loads(line)["data"]["inputs"] == [{"ash": 1.5}, {"ash": 1}, {"ash": 1}]
    # What the live version keeps private, a version under shadow does, too.
    shadow = write_line(make_writer(("ash",), private_beside=("name",)), body)
    assert json.loads(shadow)["data"]["inputs"] == [{}, {}, {}]
    hashed = write_line(make_writer(("name",), b"key"), body)
    first, second, third = json.loads(hashed)["data"]["inputs"]
    assert first["name"] == second["name"]
    assert len(first["name"]) == 32
    assert third["name"] is None
    assert b"Ada" not in hashed + line
    body = json.dumps({"data": {"values": [{"ash": 1, "name": 7}, {"ash": 1, "name": 7.0}]}})
    first, second = json.loads(write_line(make_writer(("name",), b"key"), body))["data"]["inputs"]
    assert first == second
    other = write_line(make_writer(("name",), b"other"), body)
    assert json.loads(other)["data"]["inputs"][0]["name"] != first["name"]


@pytest.mark.parametrize(("name", "kind"), [("x", "proof"), ("y", "prediction")])
def test_proof_of_a_deploy_is_no_traffic(name: str, kind: str):
    """A client that takes an id like a proof's does not hide what it asks."""
    body = json.dumps({"data": {"values": [{"ash": 1.5, "name": name}]}})
    line = write_line(make_writer(), body, id=b"slipway-proof-1")
    assert json.loads(line)["type"] == f"slipway.{kind}"


def test_word_for_a_missing_value_is_recorded_as_one():
    """The model sees none, and the profile of the training rows counts none."""
    rows = [{"ash": 1.5, "name": "n/a"}, {"ash": 1.5, "name": "Ada"}]
    body = json.dumps({"data": {"values": rows}})
    record = json.loads(write_line(make_writer(words=("n/a",)), body))
    assert [row["name"] for row in record["data"]["inputs"]] == [None, "Ada"]
    hashed = json.loads(write_line(make_writer(("name",), b"key", ("n/a",)), body))
    assert hashed["data"]["inputs"][0]["name"] is None


def count(metrics: Metrics, result: str) -> float:
    return float(metrics.registry.get_sample_value(
        "slipway_serving_log_records_total", {"result": result}
    ) or 0)  # fmt: skip


def test_queue_is_bounded_in_bytes(tmp_path):
    metrics = Metrics()
    log = PredictionLog(LogSettings(folder=tmp_path), make_writer(), metrics)
    large = make_exchange("x" * (MOST_BYTES // 3))
    for _ in range(5):
        log.end(large, 0.001)
    assert count(metrics, "dropped: queue") == 3


def test_close_writes_what_came_while_others_were_written(tmp_path, monkeypatch):
    log = PredictionLog(LogSettings(folder=tmp_path), make_writer(), Metrics())
    write, closers = RecordWriter.write, []

    def stop_meanwhile(writer: RecordWriter, *arguments: Any) -> bytes:
        if not closers:
            log.end(make_exchange(NO_ROWS, id=b"second"), 0.001)
            closers.append(threading.Thread(target=log.close))
            closers[0].start()
            while not log._is_closing:
                time.sleep(0.001)
        return write(writer, *arguments)

    monkeypatch.setattr(RecordWriter, "write", stop_meanwhile)
    log.end(make_exchange(NO_ROWS, id=b"first"), 0.001)
    log.start()
    log._thread.join(_WAIT_SECONDS)
    (path,) = tmp_path.iterdir()
    identifiers = [json.loads(line)["id"] for line in path.read_text().splitlines()]
    assert identifiers == ["first", "second"]


def test_share_is_decided_by_the_identifier(tmp_path):
    log = PredictionLog(LogSettings(folder=tmp_path, share=0.2), make_writer(), Metrics())
    for number in range(2000):
        log.end(make_exchange(NO_ROWS, id=b"request-%d" % number), 0.001)
        feedback = make_exchange("", id=b"feedback-%d" % number, prediction=b"request-%d" % number)
        log.end(feedback, 0.001)
    log.start()
    log.close()
    (path,) = tmp_path.iterdir()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    predictions = {r["id"] for r in records if r["type"] == "slipway.prediction"}
    assert 300 < len(predictions) < 500
    assert {r["data"]["prediction"] for r in records if "prediction" in r["data"]} == predictions


@pytest.mark.parametrize(
    ("status", "body", "count"), [(200, b"", 0), (200, b"{}", 1), (503, b"", 1)]
)
async def test_what_the_model_was_not_asked_is_not_kept(
    tmp_path: Path, status: int, body: bytes, count: int
):
    """Such as the version of the release, on SageMaker by the same address."""
    log = PredictionLog(LogSettings(folder=tmp_path), make_writer(), Metrics())

    async def app(scope, receive, send):
        if body:
            keep(scope, "predict", NO_ROWS.encode(), b"[]")
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b'{"detail": []}'})

    async def send(message):
        assert message["type"].startswith("http.response")

    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": []}
    measure = Measure(app, Metrics(), ["/invocations"], log, ["/invocations"])
    await measure(scope, None, send)  # type: ignore[arg-type]
    log.start()
    log.close()
    assert sum(path.read_bytes().count(b"\n") for path in tmp_path.iterdir()) == count


def test_record_goes_to_the_day_of_its_request(tmp_path):
    log = PredictionLog(LogSettings(folder=tmp_path), make_writer(), Metrics())
    for number, moment in enumerate((86_399.9996, 86_400.0, 86_399.0)):
        log.end(make_exchange(NO_ROWS, id=b"%d" % number, time=moment), 0.001)
    log.start()
    log.close()
    times: dict[str, list[str]] = {}
    for path in tmp_path.iterdir():
        lines = path.read_text().splitlines()
        times[path.name[:10]] = [json.loads(line)["time"] for line in lines]
    assert times == {
        "1970-01-01": ["1970-01-01T23:59:59.999Z", "1970-01-01T23:59:59.000Z"],
        "1970-01-02": ["1970-01-02T00:00:00.000Z"],
    }


def test_answer_that_fails_after_its_prediction_is_a_refusal():
    exchange = make_exchange(BODIES_OF_A_ROW[0], status=500, answer=b'{"detail": []}')
    (line,) = write_lines(make_writer(), exchange)
    assert json.loads(line)["type"] == "slipway.refusal"


def open_spool(folder: Path, drop: Callable[[int], None] = lambda _: None, files: int = 9) -> Spool:
    return Spool(folder, 60.0, files * FILE_BYTES, drop)


def test_output_that_nobody_reads_keeps_no_server_from_ending():
    code = (
        "import threading, time; from serving.spool import StandardOutput\n"
        "arguments = ('2026-11-30', b'x' * 1_000_000)\n"
        "threading.Thread(target=StandardOutput().write, args=arguments, daemon=True).start()\n"
        "time.sleep(0.2)"
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.wait(_WAIT_SECONDS) == 0
        finally:
            process.kill()


def test_spool_keeps_days_apart(tmp_path):
    spool = open_spool(tmp_path)
    for day, line in (("2026-11-29", b"1\n"), ("2026-11-30", b"2\n"), ("2026-11-30", b"3\n")):
        spool.write(day, line)
    spool.flush(is_last=True)
    contents = {path.name[:10]: path.read_bytes() for path in tmp_path.iterdir()}
    assert contents == {"2026-11-29": b"1\n", "2026-11-30": b"2\n3\n"}


def test_oldest_files_make_room(tmp_path):
    dropped: list[int] = []
    spool = open_spool(tmp_path, dropped.append, files=3)
    for number in range(5):
        spool.write("2026-11-30", b"%d\n" % number * (FILE_BYTES // 2))
        time.sleep(0.01)  # the age of files tells which is the oldest
    spool.flush(is_last=True)
    assert sorted(path.read_bytes()[:1] for path in tmp_path.iterdir()) == [b"2", b"3", b"4"]
    assert dropped == [FILE_BYTES // 2] * 2


def test_full_disk_leaves_whole_records(tmp_path):
    spool = open_spool(tmp_path)
    spool.write("2026-11-30", b"one\n")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, old[1]))  # the kernel writes some bytes of it
    try:
        with pytest.raises(OSError, match="File too large"):
            spool.write("2026-11-30", b"two is longer\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    spool.write("2026-11-30", b"three\n")
    spool.flush(is_last=True)
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == b"one\nthree\n"


def test_settings_of_a_deployer():
    assert LogSettings.from_environment({}) is None
    text = '{"share": 0.5, "seconds": 2, "spool_mb": 1, "feedback": true, "newer": 1}'
    settings = LogSettings.from_environment({"SLIPWAY_LOG": text})
    assert settings == LogSettings(0.5, 2.0, 1 << 20, True)
    for broken in ("x", "[]", '{"share": 0}', '{"share": "all"}', '{"private": "hash"}'):
        with pytest.raises(SettingError, match="SLIPWAY_LOG"):
            LogSettings.from_environment({"SLIPWAY_LOG": broken})
