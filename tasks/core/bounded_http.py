"""A client for servers that run code of a ref: their answers cannot fill this process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx

from tasks.core.tls import ssl_context

LARGEST_ANSWER_BYTES = 64 << 20  # a batch of the gate is below 1 MB


def bounded_client(url: str = "", *, timeout: float) -> httpx.AsyncClient:
    """Make a client that gives up an answer which is too large, or would grow when unpacked.

    Args:
        url: The part that all URLs of its requests begin with.
        timeout: Seconds, of each wait.
    """
    return httpx.AsyncClient(
        base_url=url,
        timeout=timeout,
        trust_env=False,
        headers={"Accept-Encoding": "identity"},
        transport=_Bounded(verify=ssl_context(), trust_env=False),
    )


class _Bounded(httpx.AsyncHTTPTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if "Content-Encoding" in response.headers:
            await response.aclose()
            raise httpx.DecodingError("the answer is compressed", request=request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _BoundedStream(response.stream, request)
        return response


class _BoundedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, request: httpx.Request) -> None:
        self._stream = stream
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > LARGEST_ANSWER_BYTES:
                raise httpx.ReadError(
                    f"the answer has more than {LARGEST_ANSWER_BYTES >> 20} MB",
                    request=self._request,
                )
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
