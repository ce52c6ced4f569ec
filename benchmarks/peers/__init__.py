"""Other servers of the same model, each in an environment of its own with pinned packages.

Environments are made on first use in `~/.cache/slipway-benchmarks`, 2 GB in all.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uv

from benchmarks.servers import run

Rows = Sequence[Mapping[str, Any]]

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slipway-benchmarks"


@dataclass(frozen=True)
class Place:
    """The files, programs and port of a peer."""

    model: Path  # the pickled model
    example: Mapping[str, Any]  # a row
    folder: Path  # for files of its own
    bin: Path  # of its environment
    port: int


@dataclass(frozen=True)
class Peer:
    """A server to compare with."""

    name: str
    packages: Sequence[str]
    start: Callable[[Place], Sequence[str | Path]]
    body: Callable[[Rows], Any]  # of a request
    path: str = "/predict"
    ready: str = "/ready"
    lacks: str = ""  # of what Slipway's server does, beside what all lack


def _start_mlem(place: Place) -> Sequence[str | Path]:
    return [
        place.bin / "mlem", "serve", "fastapi", "-m", place.model,
        "--host", "127.0.0.1", "--port", str(place.port),
    ]  # fmt: skip


def _start_fastapi(place: Place) -> Sequence[str | Path]:
    script, example = HERE / "fastapi_server.py", json.dumps(place.example)
    return [place.bin / "python", script, place.model, example, str(place.port)]


def _start_asgi(place: Place) -> Sequence[str | Path]:
    return [place.bin / "python", HERE / "asgi_server.py", place.model, str(place.port)]


def _start_bentoml(service: str) -> Callable[[Place], Sequence[str | Path]]:
    def start(place: Place) -> Sequence[str | Path]:
        return [
            "env", f"BENCHMARK_MODEL={place.model}", f"BENTOML_HOME={place.folder}",
            "BENTOML_DO_NOT_TRACK=1", place.bin / "bentoml", "serve",
            f"bentoml_service:{service}", "--working-dir", HERE,
            "--host", "127.0.0.1", "--port", str(place.port),
        ]  # fmt: skip

    return start


def _start_litserve(place: Place) -> Sequence[str | Path]:
    return [place.bin / "python", HERE / "litserve_server.py", place.model, str(place.port)]


def _start_mlflow(place: Place) -> Sequence[str | Path]:
    saved = place.folder / "model"
    rows = json.dumps([place.example])
    run(place.bin / "python", HERE / "mlflow_model.py", place.model, rows, saved)
    return [
        "env", f"PATH={place.bin}:{os.environ['PATH']}", place.bin / "mlflow", "models", "serve",
        "--env-manager", "local", "--workers", "1", "-m", saved, "-p", str(place.port),
    ]  # fmt: skip


def _start_mlserver(place: Place) -> Sequence[str | Path]:
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "metrics_port": place.port + 1}
    settings |= {"http_port": place.port, "grpc_port": place.port + 2, "debug": False}
    model = {
        "name": "model",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": str(place.folder / "model.joblib")},
        "max_batch_size": 64,
        "max_batch_time": 0.001,
    }
    place.folder.joinpath("settings.json").write_text(json.dumps(settings))
    place.folder.joinpath("model-settings.json").write_text(json.dumps(model))
    place.folder.joinpath("model.joblib").write_bytes(place.model.read_bytes())
    return [place.bin / "mlserver", "start", place.folder]


def _list_values(rows: Rows) -> Any:
    return {"values": [list(row.values()) for row in rows]}


def _make_tensor(rows: Rows) -> Any:
    values = [value for row in rows for value in row.values()]
    shape = [len(rows), len(rows[0])]
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP64", "data": values}]}


_SERVER = ("uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0")
# With these MLEM 0.4.14 runs at all.
_MLEM = (
    "mlem==0.4.14", "pydantic<2", "isort<6", "typer==0.23.1", "click==8.1.8", "setuptools<81",
    "fastapi==0.125.0", "starlette==0.50.0",
)  # fmt: skip

PEERS = (
    Peer(
        "MLEM", (*_MLEM, *_SERVER), _start_mlem,
        lambda rows: {"data": {"values": rows}}, ready="/interface.json",
        lacks="health checks, metrics, limits of a request, draining",
    ),
    Peer(
        "BentoML, tables", ("bentoml==1.4.40",), _start_bentoml("Frames"),
        lambda rows: {"values": rows}, ready="/readyz",
        lacks="checks of names and types of columns",
    ),
    Peer(
        "BentoML, batching", ("bentoml==1.4.40",), _start_bentoml("Batches"),
        _list_values, ready="/readyz",
        lacks="names of columns; a model's error fails the whole batch",
    ),
    Peer(
        "MLflow", ("mlflow==3.17.2",), _start_mlflow,
        lambda rows: {"dataframe_records": rows}, path="/invocations", ready="/ping",
        lacks="metrics, limits of a request",
    ),
    Peer(
        "MLServer", ("mlserver==1.7.1", "mlserver-sklearn==1.7.1"), _start_mlserver,
        _make_tensor, path="/v2/models/model/infer", ready="/v2/health/ready",
        lacks="names of columns",
    ),
    Peer(
        "LitServe", ("litserve==0.2.19",), _start_litserve, _list_values, ready="/health",
        lacks="names of columns",
    ),
    Peer(
        "FastAPI by hand", ("fastapi==0.165.0", *_SERVER), _start_fastapi,
        lambda rows: {"values": rows},
        lacks="all but checks of names and types",
    ),
    Peer(
        "ASGI by hand", ("orjson==3.13.0", *_SERVER), _start_asgi, _list_values,
        lacks="all: routes, checks, messages",
    ),
)  # fmt: skip


def make_environment(packages: Sequence[str], model_packages: Mapping[str, str]) -> Path:
    """Make an environment with these packages and the model's; return its folder of programs."""
    pins = [*packages, *(f"{name}=={version}" for name, version in model_packages.items())]
    digest = hashlib.sha256("\n".join(pins).encode()).hexdigest()[:12]
    folder = CACHE / f"{packages[0].partition('==')[0]}-{digest}"
    if not (folder / "complete").exists():
        tool = uv.find_uv_bin()
        run(tool, "venv", "--quiet", "--clear", "--python", "3.11", folder)
        python = folder / "bin" / "python"
        run(tool, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *pins)
        (folder / "complete").touch()
    return folder / "bin"
