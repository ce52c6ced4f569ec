"""AWS as moto answers it, behind a check of who asks: moto itself lets in everybody."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from starlette.requests import Request
from starlette.responses import Response
from werkzeug.test import Client

_WORDED_IN_XML = {"iam", "sts"}
_CREDENTIAL = re.compile(
    r"Credential=(?P<key>[^/]+)/(?P<date>\d+)/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request,"
    r" *SignedHeaders=(?P<signed>[^,]+), *Signature=(?P<signature>\w+)"
)


@dataclass(frozen=True)
class Call:
    """A call of AWS.

    Attributes:
        service: Name of the service, as it is signed for.
        operation: Name of the operation.
        headers: The headers, with small letters.
    """

    service: str
    operation: str
    body: bytes
    headers: Mapping[str, str]
    path: str

    @property
    def parameters(self) -> dict[str, Any]:
        """The content of a JSON body."""
        return dict(json.loads(self.body or b"{}"))


class Refusal(Exception):
    """AWS does not do what it was asked for."""

    def __init__(self, code: str, message: str, status: int = 400, **more: Any) -> None:
        super().__init__(message)
        self.code, self.status, self.more = code, status, more


def error_response(service: str, refusal: Refusal) -> Response:
    """Make an error in the words of a service."""
    headers = {"x-amzn-errortype": refusal.code, "x-amzn-requestid": "a-request"}
    if service in _WORDED_IN_XML:
        error = f"<Error><Code>{refusal.code}</Code><Message>{refusal}</Message></Error>"
        body = f"<ErrorResponse>{error}<RequestId>a-request</RequestId></ErrorResponse>"
        return Response(body, refusal.status, headers, "text/xml")
    content = {"__type": refusal.code, "message": str(refusal), "Message": str(refusal)}
    body = json.dumps(content | refusal.more)
    return Response(body, refusal.status, headers, "application/x-amz-json-1.1")


def operation_of(headers: Mapping[str, str], path: str) -> str:
    """Read the name of an operation from a header, the path or the body."""
    if path.endswith("/invocations"):
        return "InvokeEndpoint"
    return headers.get("x-amz-target", path.rpartition("/operation/")[2]).rpartition(".")[2]


class Aws:
    """ASGI application: who asks is checked, then a part of it answers, else moto.

    Args:
        key_id: The access key that is let in.
    """

    def __init__(self, key_id: str, secret: str) -> None:
        self._credentials = Credentials(key_id, secret)
        self._moto = Client(DomainDispatcherApplication(create_backend_app))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        credential = _CREDENTIAL.search(request.headers.get("authorization", ""))
        try:
            response = await self.answer(await self._admit(request, credential))
        except Refusal as refusal:
            response = error_response(credential["service"] if credential else "", refusal)
        await response(scope, receive, send)

    async def answer(self, call: Call) -> Response:
        """Answer a call of somebody whom we know."""
        return await self.moto(call)

    async def moto(self, call: Call) -> Response:
        """Have moto answer."""
        answer = await asyncio.to_thread(
            self._moto.open, call.path, method="POST", headers=dict(call.headers), data=call.body
        )
        headers = {k: v for k, v in answer.headers.items() if k.lower() != "content-length"}
        return Response(answer.data, answer.status_code, headers)

    async def _admit(self, request: Request, credential: re.Match[str] | None) -> Call:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.body()
        if credential is None:
            raise Refusal(
                "MissingAuthenticationTokenException", "Missing Authentication Token", 403
            )
        if credential["key"] != self._credentials.access_key:
            raise Refusal(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
                403,
            )
        signed = {name: headers[name] for name in credential["signed"].split(";")}
        again = AWSRequest("POST", str(request.url), signed, body)
        again.context["timestamp"] = headers["x-amz-date"]
        signer = SigV4Auth(self._credentials, credential["service"], credential["region"])
        canonical = signer.canonical_request(again)
        if (
            signer.signature(signer.string_to_sign(again, canonical), again)
            != credential["signature"]
        ):
            raise Refusal(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided.",
                403,
            )
        path = request.url.path
        return Call(credential["service"], operation_of(headers, path), body, headers, path)


def violations(shape: Any, value: Any, where: str = "") -> Iterator[str]:
    """List what in a request differs from the service's own description.

    boto3 checks names and types before it sends anything, but not lengths, patterns and words.
    """
    if shape.type_name == "structure":
        for name, item in value.items():
            yield from violations(shape.members[name], item, f"{where}.{name}")
    elif shape.type_name == "list":
        yield from _length(shape, len(value), where)
        for item in value:
            yield from violations(shape.member, item, f"{where}[]")
    elif shape.type_name == "string":
        yield from _length(shape, len(value), where)
        pattern = re.sub(r"\\p\{\w\}", r"\\w", shape.metadata.get("pattern", ".*"))
        if not re.fullmatch(pattern, value, re.S):
            yield f"{where} is {value!r}, not {pattern}"
        if shape.enum and value not in shape.enum:
            yield f"{where} is {value!r}, not one of {shape.enum}"
    elif shape.type_name == "integer":
        yield from _length(shape, value, where)


def _length(shape: Any, size: int, where: str) -> Iterator[str]:
    least, most = shape.metadata.get("min", size), shape.metadata.get("max", size)
    if not least <= size <= most:
        yield f"{where} is {size}, not between {least} and {most}"
