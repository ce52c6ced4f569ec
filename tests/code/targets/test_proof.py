"""The proof of a server, held against servers that only seem to be well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tasks.errors import TerminalError
from tasks.packaging import Package
from tasks.targets.proof import Candidate, soak
from tasks.workspace import Workspace
from tests.platforms.serve import serving

_RELEASE, _MD5 = "20260101T000000-abcdef1-12ab", "0" * 32


@pytest.fixture
def url() -> Iterator[str]:
    """A server that answers as it should, whatever becomes of others beside it."""

    async def version(_: Request) -> JSONResponse:
        return JSONResponse({"release": _RELEASE, "md5": _MD5})

    async def predict(_: Request) -> JSONResponse:
        return JSONResponse([1])

    routes = [Route("/version", version), Route("/predict", predict, methods=["POST"])]
    with serving(Starlette(routes=routes)) as where:
        yield where


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(
        workspace=Workspace(tmp_path, "0" * 40, "main"),
        model="wine",
        commit="0" * 40,
        md5=_MD5,
        sha256="",
        size=0,
        python="3.11.0",
        packages={},
        golden={"inputs": [{"a": 1}], "outputs": {"predict": [1]}},
        serving="",
    )


async def test_one_of_several_that_ends_while_another_answers_is_seen(
    url: str, package: Package
) -> None:
    looks = iter([False, False, True])
    candidate = Candidate(
        url, package, _RELEASE, crashed=lambda: next(looks), last_lines=lambda: "out of memory"
    )
    await soak(candidate, 0)
    with pytest.raises(TerminalError, match="ended after it was proven:\nout of memory"):
        await soak(candidate, 1)
