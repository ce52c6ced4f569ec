"""Answers of a platform's API that are not JSON."""

from __future__ import annotations

from functools import partial

import httpx
import pytest
from pydantic import SecretStr

from tasks.core.errors import TransientError
from tasks.platforms.base.rest import RestAPI


@pytest.mark.parametrize(
    ("content_type", "body", "shown"),
    [
        ("application/json", '{"API_TOKEN": "hush", "A', "the answer is broken"),
        ("text/html", "<h1>Sign in</h1>", "<h1>Sign in</h1>"),
    ],
)
async def test_answer_that_is_no_json_shows_no_secret(
    content_type: str, body: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = httpx.Response(200, headers={"Content-Type": content_type}, content=body.encode())
    transport = httpx.MockTransport(lambda _: answer)
    monkeypatch.setattr(httpx, "AsyncClient", partial(httpx.AsyncClient, transport=transport))
    api = RestAPI("Heroku", "https://api.example", SecretStr("token"), "a-block")
    with pytest.raises(TransientError, match="did not return JSON") as raised:
        await api.call("GET", "/apps/wine/config-vars")
    assert shown in raised.value.what
    assert "hush" not in str(raised.value)
