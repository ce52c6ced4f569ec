"""The proof of a server, held against servers that only seem to be well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tasks.core.errors import TerminalError
from tasks.package.package import Package
from tasks.platforms.base.proof import Candidate, soak
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


async def test_one_of_several_that_ends_while_another_answers_is_seen(
    url: str, paper: Package
) -> None:
    looks = iter([False, False, True])
    candidate = Candidate(
        url, paper, _RELEASE, crashed=lambda: next(looks), last_lines=lambda: "out of memory"
    )
    await soak(candidate, 0)
    with pytest.raises(TerminalError, match="ended after it was proven:\nout of memory"):
        await soak(candidate, 1)
