"""A real cluster behind a relay, so that its API can be made to fail as well."""

from __future__ import annotations

import asyncio
from pathlib import Path

from kubernetes import config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.stand_ins.kubernetes.store import Refusal

_METHODS = ["GET", "POST", "PATCH", "DELETE"]


class Relay:
    """Passes on what is asked with our token, in the name of who a kubeconfig names.

    Args:
        kubeconfig: Where the real cluster is.
    """

    def __init__(self, kubeconfig: Path, token: str) -> None:
        self._api = config.new_client_from_config(str(kubeconfig))
        self._token = token
        self.app = Starlette(routes=[Route("/{path:path}", self._pass_on, methods=_METHODS)])

    async def _pass_on(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self._token}":
            return JSONResponse(Refusal(401, "Unauthorized", "Unauthorized").body, 401)
        body = await request.body()
        headers = {
            name: request.headers[name]
            for name in ("accept", "content-type")
            if name in request.headers
        }
        method, url, headers, *_ = self._api.param_serialize(
            request.method,
            request.url.path,
            query_params=request.query_params.multi_items(),
            header_params=headers,
            auth_settings=["BearerToken"],
        )
        pool = self._api.rest_client.pool_manager
        answer = await asyncio.to_thread(
            pool.request, method, url, body=body or None, headers=headers
        )
        kind = answer.headers.get("content-type")
        return Response(answer.data, answer.status, media_type=kind)
