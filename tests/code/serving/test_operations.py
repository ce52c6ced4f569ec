"""What operators rely on: health, identity, metrics, failures that stay small, a clean stop."""

import contextlib
import hashlib
import json
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from serving.categories import MOST_BYTES, UNSEEN, make_unseen_header
from serving.failures import Failures
from serving.service import Service
from serving.settings import Limits, LogSettings
from tasks.core.tls import ssl_context
from tests.code.serving.running import START_SECONDS
from tests.code.serving.test_interface import bundle, frame


def numbers(*rows):
    return {"data": {"values": [{"first": float(a), "second": float(b)} for a, b in rows]}}


def test_health_and_readiness(served):
    wine = served("wine")
    assert httpx.get(f"{wine.url}/healthz").json() == {"status": "up"}
    assert httpx.get(f"{wine.url}/readyz").json() == {"status": "ready"}
    for path in ("/healthz", "/readyz", "/", "/version"):
        assert httpx.head(f"{wine.url}{path}").status_code == 200


def test_version_describes_the_release_and_the_loaded_file(served, bundles):
    content = (bundles / "wine" / "wine").read_bytes()
    version = httpx.get(f"{served('wine').url}/version").json()
    assert version["version"] == "v1.2.0"
    assert version["commit"].startswith("0123456789")
    assert version["md5"] == hashlib.md5(content).hexdigest()
    assert version["sha256"] == hashlib.sha256(content).hexdigest()
    assert version["ready"] is True


def test_metrics_count_rows_and_known_routes(served, golden):
    wine = served("wine")
    wine.post("/predict", {"data": {"values": golden("wine")["inputs"][:7]}})
    for number in range(3):
        httpx.get(f"{wine.url}/no/such/{number}")
    text = httpx.get(f"{wine.url}/metrics").text
    assert 'slipway_serving_requests_total{route="/predict",status="200"}' in text
    assert 'slipway_serving_requests_total{route="other",status="404"}' in text
    assert "/no/such" not in text
    assert 'slipway_serving_request_seconds_bucket{le="0.001",route="/predict"}' in text
    assert "slipway_serving_in_flight_requests 1.0" in text
    assert "slipway_serving_ready 1.0" in text
    assert 'version="v1.2.0"' in text
    assert 'slipway_serving_rows_total{method="predict"}' in text


def test_categories_never_seen_are_answered_and_said(served, golden):
    mixed = served("mixed")
    row = golden("mixed")["inputs"][0]
    rows = [row | {"colour": colour} for colour in ("red", None, "green", "greén")]
    answer = mixed.post("/predict", {"data": {"values": rows}})
    assert len(answer.json()) == 4
    assert answer.headers["slipway-unseen-categories"] == '{"colour": 2}'
    known = mixed.post("/predict", {"data": {"values": rows[:2]}})
    assert "slipway-unseen-categories" not in known.headers
    text = httpx.get(f"{mixed.url}/metrics").text
    assert 'slipway_serving_unseen_categories_total{column="colour"} 2.0' in text
    operation = httpx.get(f"{mixed.url}/openapi.json").json()["paths"]["/predict"]["post"]
    assert "Slipway-Unseen-Categories" in operation["responses"]["200"]["headers"]


def test_header_of_unseen_categories_fits_any_name():
    header = make_unseen_header({"größe\x7f": 1} | {f"{i:060}": 1 for i in range(300)})[UNSEEN]
    assert header.isascii()
    assert header.isprintable()
    assert len(header) <= MOST_BYTES
    assert json.loads(header)["größe\x7f"] == 1


def test_wrong_addresses_and_methods_are_explained(served):
    wine = served("wine")
    assert httpx.get(f"{wine.url}/nothing").status_code == 404
    wrong = httpx.get(f"{wine.url}/predict")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json()["error"] == "This address takes POST, not GET."
    message = "This address takes GET or HEAD, not POST."
    assert httpx.post(f"{wine.url}/metrics").json()["error"] == message
    assert httpx.get(f"{wine.url}/static/../bundle.py").status_code == 404
    assert httpx.get(f"{wine.url}/static/%2e%2e%2fbundle.py").status_code == 404


def test_security_headers(served):
    wine = served("wine")
    page = httpx.get(f"{wine.url}/").headers
    assert "default-src 'none'" in page["content-security-policy"]
    for headers in (page, httpx.get(f"{wine.url}/version").headers):
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_docs_show_a_real_example(served, golden):
    description = httpx.get(f"{served('wine').url}/openapi.json").json()
    operation = description["paths"]["/predict_proba"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert example == {"data": {"values": golden("wine")["inputs"][:1]}}
    response = served("wine").post("/predict_proba", example)
    shown = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert response.json() == [pytest.approx(shown[0])]
    row = description["components"]["schemas"]["Row"]
    assert row["properties"]["magnesium"]["type"] == "integer"


def test_failing_model_is_500_with_a_reference_and_the_server_continues(served):
    moody = served("moody")
    response = moody.post("/predict", numbers((666, 1)))
    assert response.status_code == 500
    reference = response.json()["error"].split("reference ")[1][:8]
    assert f"predict failed, reference {reference}" in moody.log
    assert "no luck" not in response.text
    assert "Traceback" not in response.text
    assert moody.post("/predict", numbers((1, 1))).status_code == 200


def test_failure_is_logged_in_full_once(served):
    moody = served("moody")
    bad = {"data": {"values": [{"first": 666.0, "second": 1.0}]}}
    moody.post("/predict", bad)
    before = len(moody.log)
    assert moody.post("/predict", bad).status_code == 500
    assert len(lines := moody.log[before:].splitlines()) == 1
    assert "no luck" in lines[0]


def test_log_of_a_model_with_private_columns_quotes_no_client(caplog):
    failures = Failures(is_private=True)
    cell = "-".join(["Al", "ice"])
    with pytest.raises(ValueError, match="Al-ice") as failure:
        float(cell)
    failures.log_refusal("predict", failure.value)
    failures.log_failure("predict", failure.value)
    assert "in test_log_of_a_model_with_private_columns" in caplog.text
    assert "Al-ice" not in caplog.text


def test_log_of_a_shadow_quotes_nothing_that_the_live_version_keeps_private(caplog):
    settings = LogSettings(private=frozenset({"name"}))
    service = Service(bundle(frame(name="object")), Limits(), print, settings)
    service.failures.log_refusal("predict", ValueError("Al-ice"))
    assert "refused values" in caplog.text
    assert "Al-ice" not in caplog.text


def test_model_server_answers_beside_1005_idle_connections(served, golden):
    wine = served("wine")
    row = {"data": {"values": golden("wine")["inputs"][:1]}}
    with contextlib.ExitStack() as stack:
        for _ in range(1005):
            stack.enter_context(socket.create_connection(("127.0.0.1", wine.port)))
        for path in ("/healthz", "/readyz"):
            assert httpx.get(f"{wine.url}{path}").status_code == 200
        assert wine.post("/predict", row).status_code == 200


def test_custom_code_sees_the_variables_of_the_server(start, bundles, monkeypatch):
    monkeypatch.setenv("MOOD", "sunny")
    with start(bundles / "moody") as moody:
        assert moody.post("/predict", numbers((667, 1))).status_code == 500
        assert "the mood is sunny" in moody.log


def wait_until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_large_batches_queue_while_small_requests_are_answered(start, bundles):
    slow = numbers((2500, 1), *[(0, 0)] * 40)  # 1.5 s, and too many rows to be run inline
    with start(bundles / "moody", THREADS="1", QUEUE="1") as moody:
        answers = []

        def ask():
            answers.append(moody.post("/predict", slow))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) == 2)  # who would have to wait too long is told at once
        assert moody.post("/predict", numbers((1, 1))).status_code == 200
        assert [answer.status_code for answer in answers].count(200) < 2, "it did not wait for them"
        for thread in threads:
            thread.join()
    assert sorted(answer.status_code for answer in answers) == [200, 200, 503, 503]
    assert all(a.headers["retry-after"] == "1" for a in answers if a.status_code == 503)


def test_small_requests_to_a_slow_model_are_not_refused(start, bundles):
    with (
        start(bundles / "moody", THREADS="1", QUEUE="0", INLINE_MILLISECONDS="0") as moody,
        ThreadPoolExecutor(12) as clients,
    ):
        answers = list(clients.map(lambda _: moody.post("/predict", numbers((1030, 1))), range(24)))
    assert {answer.status_code for answer in answers} == {200}


def test_stop_finishes_requests_in_flight(start, bundles):
    with start(bundles / "moody") as moody:
        answers = []
        slow = numbers((2000, 1), *[(0, 0)] * 40)
        thread = threading.Thread(target=lambda: answers.append(moody.post("/predict", slow)))
        thread.start()
        # The request that asks is in flight as well.
        wait_until(lambda: "in_flight_requests 2.0" in httpx.get(f"{moody.url}/metrics").text)
        moody.process.send_signal(signal.SIGTERM)
        thread.join()
        assert moody.process.wait(10) == 0
    assert answers[0].status_code == 200
    assert len(answers[0].json()) == 41
    assert "Traceback" not in moody.log


def test_draining_server_answers_and_closes_connections(start, bundles):
    row = numbers((1, 1))
    with start(bundles / "moody") as moody, httpx.Client(base_url=moody.url, timeout=30) as client:
        assert "connection" not in client.post("/predict", json=row).headers
        moody.process.send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while (answer := client.post("/predict", json=row)).headers.get("connection") != "close":
            assert time.monotonic() < deadline
        for _ in range(3):
            answer = client.post("/predict", json=row)
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")


def test_loading_server_listens_but_is_not_ready(start, bundles, tmp_path):
    folder = Path(shutil.copytree(bundles / "moody", tmp_path / "moody"))
    with (
        start(folder, ready=False, is_new=True) as moody,  # one that loads at once is never seen
        httpx.Client(base_url=moody.url, verify=ssl_context()) as client,
    ):
        seen = []
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and 200 not in seen:
            with contextlib.suppress(httpx.TransportError):
                seen.append(client.get("/readyz").status_code)
                if seen[-1] == 503:
                    assert client.get("/healthz").status_code == 200
                    early = client.post("/predict", json=numbers((1, 1)))
                    assert early.status_code in {200, 503}
            time.sleep(0.02)
    assert (seen[0], seen[-1]) == (503, 200)


def test_pages_of_other_sites_may_ask_if_that_is_set(start, served, bundles, golden):
    body = {"data": {"values": golden("mixed")["inputs"][:1]}}
    site = {"Origin": "https://a.example"}
    refused = httpx.post(f"{served('mixed').url}/predict", json=body, headers=site)
    assert "access-control-allow-origin" not in refused.headers
    origins, report = "https://a.example https://b.example", "https://c.example/card/{commit}"
    with start(bundles / "mixed", CORS_ORIGINS=origins, REPORT_URL=report) as server:
        model = httpx.get(f"{server.url}/model.json").json()
        assert model["report"] == f"https://c.example/card/{model['commit']}"
        allowed = httpx.post(f"{server.url}/predict", json=body, headers=site)
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        assert "slipway-unseen" in allowed.headers["access-control-expose-headers"].lower()
        other = {"Origin": "https://c.example"}
        preflight = {"Access-Control-Request-Method": "POST"}
        assert httpx.options(f"{server.url}/predict", headers=site | preflight).status_code == 200
        assert httpx.options(f"{server.url}/predict", headers=other | preflight).status_code == 400


def test_settings_are_checked(start, bundles):
    with start(bundles / "moody", ready=False, is_new=True, MAX_ROW="5") as moody:
        assert moody.process.wait(30) == 2
    assert "unknown setting SLIPWAY_SERVING_MAX_ROW; known are" in moody.log


def test_limits_can_be_set(start, bundles):
    with start(bundles / "moody", MAX_ROWS="30", MAX_BODY_BYTES="2000") as moody:
        assert moody.post("/predict", numbers(*[(1, 1)] * 31)).status_code == 413
        assert moody.post("/predict", numbers(*[(1, 1)] * 300)).json()["error"] == (
            "The body is too large: at most 2000 bytes."
        )
        assert moody.post("/predict", numbers((1, 1))).status_code == 200


def test_runtime_contains_neither_mlem_nor_the_orchestrator(runtime):
    packages = {path.name for path in (runtime.parents[1] / "lib").glob("*/site-packages/*")}
    assert not packages & {"mlem", "prefect", "dvc", "gto"}
    assert any(name.startswith("pydantic-2") for name in packages)


def test_server_can_listen_only_once_ready(start, bundles):
    with (
        start(bundles / "wine", "--listen-when-ready", ready=False, is_new=True) as wine,
        httpx.Client(verify=ssl_context()) as client,
    ):
        answers = []
        while not answers:
            assert wine.process.poll() is None, wine.log
            with contextlib.suppress(httpx.TransportError):
                answers.append(client.get(f"{wine.url}/readyz").status_code)
            time.sleep(0.01)
        assert answers == [200]
        # Garbage was looked for once, when all was loaded; that is left out from then on.
        text = client.get(f"{wine.url}/metrics").text
        assert 'python_gc_collections_total{generation="2"} 1.0' in text
