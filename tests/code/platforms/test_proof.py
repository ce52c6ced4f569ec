"""The proof of a server: what it notices, and how it explains the end of a server."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tasks.core.errors import TerminalError
from tasks.package.package import Package
from tasks.platforms.base.libraries import missing_library
from tasks.platforms.base.proof import Candidate, prove, soak
from tests.containers import free_port
from tests.stand_ins.serve import serving

_RELEASE = "20260101T000000-abcdef1-12ab"


@pytest.fixture
def url() -> Iterator[str]:
    """A server that answers as it should, whatever becomes of others beside it."""

    async def version(_: Request) -> JSONResponse:
        return JSONResponse({"release": _RELEASE, "md5": "0" * 32})

    async def predict(_: Request) -> JSONResponse:
        return JSONResponse([1])

    routes = [Route("/version", version), Route("/predict", predict, methods=["POST"])]
    with serving(Starlette(routes=routes)) as where:
        yield where


async def test_end_of_one_of_several_servers_is_noticed(url: str, paper: Package) -> None:
    looks = iter([False, False, True])
    candidate = Candidate(
        url, paper, _RELEASE, crashed=lambda: next(looks), last_lines=lambda: "out of memory"
    )
    await soak(candidate, 0)
    with pytest.raises(TerminalError, match="ended after it was proven:\nout of memory") as end:
        await soak(candidate, 1)
    assert "before" not in end.value.state, "it soaks when the traffic has moved"


@pytest.mark.parametrize(
    ("log", "library"),
    [
        (
            "ERROR cannot serve /app/model: wine: cannot be unpickled: ImportError: libstdc++.so.6:"
            " cannot open shared object file: No such file or directory",
            "libstdc++.so.6",
        ),
        (
            "Original error was: libgfortran-040039e1.so.5.0.0: cannot open shared object file",
            "libgfortran-040039e1.so.5.0.0",
        ),
        (
            "ImportError: Error loading shared library libgomp.so.1: No such file or directory"
            " (needed by /app/packages/sklearn/x.so)",
            "libgomp.so.1",
        ),
        ("ModuleNotFoundError: No module named 'libstdc'", None),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'libstdc++.so.6'", None),
    ],
)
def test_missing_library_is_read_from_the_import_error(log: str, library: str | None) -> None:
    assert missing_library(log) == library


def test_missing_library_is_read_from_the_words_of_this_system() -> None:
    with pytest.raises(OSError, match="libabsent") as error:
        ctypes.CDLL("libabsent.so.7")
    assert missing_library(str(error.value)) == "libabsent.so.7"


@pytest.mark.parametrize(
    ("base", "where"),
    [("debian:12-slim", "base image debian:12-slim lacks"), ("", "the worker's host lacks")],
)
async def test_server_without_a_library_names_it_and_the_base_image(
    paper: Package, base: str, where: str
) -> None:
    log = "ImportError: libstdc++.so.6: cannot open shared object file"
    candidate = Candidate(
        f"http://127.0.0.1:{free_port()}", paper, _RELEASE,
        crashed=lambda: True, last_lines=lambda: log, base=base,
    )  # fmt: skip
    with pytest.raises(TerminalError, match=rf"{where} the shared library libstdc\+\+") as refusal:
        await prove(candidate, 5)
    assert "libstdc++.so.6" in refusal.value.next_step
    assert "mend the model" not in refusal.value.next_step
