"""Proof that a server serves the right release, the same on all platforms.

A server is proven by what it answers, wherever it runs: it is ready, its version names the release
and the model's md5, and the golden inputs give the golden predictions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from tasks.core.bounded_http import bounded_client
from tasks.core.errors import CandidateRejected, SlipwayError
from tasks.core.threads import in_thread
from tasks.package.package import Package
from tasks.platforms.base import golden
from tasks.platforms.base.libraries import library_error
from tasks.platforms.base.model_server import HttpServer, Server
from tasks.platforms.base.no_answer import UNCHANGED

_POLL_SECONDS = 0.1
_SHOWN = 200  # characters of an answer


@dataclass(frozen=True)
class Candidate:
    """A server to prove.

    Attributes:
        package: The package that it should serve.
        release: Name of the release that `/version` should report.
        crashed: Returns whether it has ended, or one of several behind its URL.
        last_lines: Returns the end of its log, for people.
        server: The connection to it, unless that is HTTP at its URL.
        base: Base image of its image; empty for a server of the worker's own host.
    """

    url: str
    package: Package
    release: str
    crashed: Callable[[], bool]
    last_lines: Callable[[], str]
    server: Server | None = None
    base: str = ""

    @property
    def connection(self) -> Server:
        """The connection to the server."""
        return self.server or HttpServer(self.url)


async def prove(candidate: Candidate, within: float) -> None:
    """Wait until a server is ready, and prove it.

    Args:
        within: Seconds in which it has to get ready.

    Raises:
        CandidateRejected: It crashed, did not get ready, is something else, or predicts otherwise.
    """
    why = "nothing yet"
    try:
        async with asyncio.timeout(within):
            while why := await _reason_unready(candidate.url):
                if await in_thread(candidate.crashed):
                    log = await in_thread(candidate.last_lines)
                    raise library_error(log, candidate.base) or _proof_error(
                        f"the model server ended at start:\n{log}"
                    )
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        log = await in_thread(candidate.last_lines)
        raise _proof_error(
            f"the model server did not get ready within {within:g} s: {candidate.url}/readyz"
            f" says {why}\n{log}",
            next_step="see that this URL leads to the server, and that its certificate is trusted"
            " (`SSL_CERT_FILE`); else fix the model or the serving code, commit, and deploy that",
        ) from None
    await _compare(candidate)


async def soak(candidate: Candidate, seconds: float) -> None:
    """Prove a server again and again for some time, at least once.

    Args:
        candidate: The server, which is ready.
        seconds: For how long.

    Raises:
        CandidateRejected: Once, it was not what it should be, or it crashed.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        await _compare(candidate)
        # Of several servers, one may have ended while another answers.
        if await in_thread(candidate.crashed):
            log = await in_thread(candidate.last_lines)
            raise _proof_error(f"the model server ended after it was proven:\n{log}")
        if loop.time() >= end:
            return
        await asyncio.sleep(_POLL_SECONDS)


async def version(url: str) -> dict[str, str] | None:
    """Return what a server reports of its release, None if it does not answer."""
    return await HttpServer(url).version()


async def _compare(candidate: Candidate) -> None:
    """Hold a server against what it should be."""
    answer = await candidate.connection.version()
    expected = (candidate.release, candidate.package.md5)
    actual = (answer.get("release"), answer.get("md5")) if answer else None
    if actual != expected:
        raise _proof_error(
            f"the server at {candidate.url} reports release and md5 {actual} instead of {expected}"
        )
    try:
        await golden.replay(candidate.connection, candidate.package.golden)
    except SlipwayError as error:
        # A server that is up and does not answer is no better than one that answers wrongly.
        log = await in_thread(candidate.last_lines)
        raise _proof_error(f"{error.what}\n{log}".rstrip()) from error


async def _reason_unready(url: str) -> str:
    """Return why a server is not ready; empty if it is."""
    try:
        async with bounded_client(timeout=5) as client:
            answer = await client.get(f"{url}/readyz")
    except httpx.HTTPError as error:
        return f"nothing ({type(error).__name__}: {error})"
    return "" if answer.status_code == 200 else f"{answer.status_code}: {answer.text[:_SHOWN]}"


def _proof_error(
    what: str,
    next_step: str = "fix the model or the serving code, commit, and deploy that commit",
) -> CandidateRejected:
    return CandidateRejected(what, state=UNCHANGED, next_step=next_step)
