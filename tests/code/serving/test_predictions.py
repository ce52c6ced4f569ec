"""What is served is what the model says, and what MLEM's own server and client say."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uv

from tests.code.model.support import model_python
from tests.code.serving.running import HERE, NAMES, ROOT, clean_environment, free_port

FRAMES = ("wine", "labels", "diabetes", "mixed", "text", "moody")

# What MLEM's server needs beside the model environment, in versions that still know pydantic 1.
MLEM_SERVER = [
    word
    for pin in ("fastapi==0.125.0", "starlette==0.50.0", "uvicorn", "pydantic<2")
    for word in ("--with", pin)
]


def body(name, rows):
    return {"data": {"values": rows} if name in FRAMES else rows}


@pytest.mark.parametrize("name", NAMES)
def test_golden_predictions_are_served(served, golden, name):
    server, saved = served(name), golden(name)
    interface = httpx.get(f"{server.url}/interface.json").json()
    assert set(interface["methods"]) == set(saved["outputs"])
    for method, expected in saved["outputs"].items():
        response = server.post(f"/{method}", body(name, saved["inputs"]))
        assert response.status_code == 200
        assert same(response.json(), expected)
        single = server.post(f"/{method}", body(name, saved["inputs"][:1])).json()
        assert same(single, expected[:1])


def same(got, expected):
    if isinstance(expected, float):
        return got == pytest.approx(expected, rel=1e-9)
    if isinstance(expected, list):
        return len(got) == len(expected) and all(map(same, got, expected))
    return got == expected


def test_column_order_does_not_matter(served, golden):
    saved = golden("wine")
    turned = [dict(reversed(row.items())) for row in saved["inputs"]]
    assert (
        served("wine").post("/predict", body("wine", turned)).json() == saved["outputs"]["predict"]
    )


def test_numeric_models_skip_the_dataframe_if_predictions_are_equal(served):
    paths = {name: httpx.get(f"{served(name).url}/metrics").text for name in NAMES}
    fast = {name for name, text in paths.items() if 'path="ndarray"' in text}
    assert fast == {"wine", "labels", "array", "diabetes", "moody"}


def test_model_with_predict_only_has_no_other_route(served, golden):
    row = golden("labels")["inputs"][:1]
    assert served("labels").post("/predict_proba", body("labels", row)).status_code == 404


@contextlib.contextmanager
def mlem_server(folder: Path, name: str) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [uv.find_uv_bin(), "run", "--quiet", "--project", "model", "--frozen", *MLEM_SERVER,
         "mlem", "serve", "fastapi", "-m", str(folder / name / name),
         "--host", "127.0.0.1", "--port", str(port)],
        cwd=ROOT,
        env={
            **clean_environment(),
            "MLEM_NO_ANALYTICS": "1",
            "ITERATIVE_DO_NOT_TRACK": "1",
            "MLEM_ADDITIONAL_EXTENSIONS": ",".join(
                f"mlem.contrib.{name}" for name in ("numpy", "pandas", "sklearn")
            ),
        },
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert process.poll() is None, "MLEM's server has stopped"
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{url}/interface.json")
                break
            time.sleep(0.1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("name", ["wine", "array"])
def test_json_equals_that_of_mlems_server(bundles, served, golden, name):
    ours, rows = served(name).url, golden(name)["inputs"]
    with mlem_server(bundles, name) as theirs:
        description = httpx.get(f"{theirs}/interface.json").json()
        assert httpx.get(f"{ours}/interface.json").json() == description
        for method in description["methods"]:
            answers = [
                httpx.post(f"{url}/{method}", json=body(name, rows)) for url in (ours, theirs)
            ]
            assert answers[0].status_code == answers[1].status_code == 200
            assert same(answers[0].json(), answers[1].json())


def test_mlems_client_can_call(served, golden):
    """In one process of the model environment, for every model, as a user of MLEM would."""
    ports = {name: served(name).port for name in ("wine", "array", "mixed", "text")}
    called = model_python(HERE / "call_by_mlem.py", json.dumps(ports), cwd=ROOT)
    got = json.loads(called.stdout)
    for name in ports:
        for method, expected in golden(name)["outputs"].items():
            assert same(got[name][method], expected[:1])
