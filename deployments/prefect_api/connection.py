"""Requests to a Prefect server: address, credentials, errors that name the next step."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

import httpx

from deployments.prefect_api.run_events import RunEvents
from deployments.prefect_api.server_auth import ServerAuth, basic
from tasks.core.errors import ConfigurationError, SlipwayError, TerminalError, TransientError

_CLOUD = re.compile(r"https://api(\.[\w.]+)/api/accounts/([^/]+)/workspaces/([^/]+)")
_LOCAL = re.compile(r"https?://(127\.0\.0\.1|localhost)[:/]")


def is_cloud(url: str) -> bool:
    """Return whether an API URL is that of a workspace of Prefect Cloud."""
    return _CLOUD.fullmatch(url.rstrip("/")) is not None


def is_local(url: str) -> bool:
    """Return whether an API URL is on this machine, which no proxy of the environment reaches."""
    return _LOCAL.match(url) is not None


class Connection:
    """A connection to one Prefect server; use it as a context manager, or close it.

    Args:
        url: The server's API URL: it ends in `/api`, of Prefect Cloud in a workspace's id.
        authorization: Value of the header `Authorization` of every request; empty for none.
        ui: Address of the server's UI, if it does not follow from the API URL.
    """

    def __init__(self, url: str, authorization: str = "", ui: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._ui = (ui or "").rstrip("/")
        self._local = is_local(url)
        self._authorization = authorization
        self._http = httpx.Client(
            base_url=self.url,
            auth=ServerAuth(self.url, authorization),
            timeout=15,
            trust_env=not self._local,
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Return a client of the server that the variables of Prefect's own settings name.

        `PREFECT_API_URL`, and the server's credentials: `PREFECT_API_AUTH_STRING`, the
        `user:password` of a self-hosted server, or `PREFECT_API_KEY`, the key of Prefect Cloud. A
        `PREFECT_API_KEY` with a colon in it, which no key has, is taken for a `user:password`: so
        two secrets do for either. `PREFECT_UI_URL` if the UI has another address than usual.

        Raises:
            ConfigurationError: `PREFECT_API_URL` is missing or no URL.
        """
        url = environment.get("PREFECT_API_URL", "").strip()
        if not _is_url(url):
            raise ConfigurationError(
                f"PREFECT_API_URL is {'not an http(s) URL' if url else 'not set'}",
                state="no request was sent",
                next_step="set it to the API URL of your Prefect server, which ends in /api, or to"
                " that of a workspace of Prefect Cloud (`prefect config view` shows it); in CI"
                " it is a secret; for a server on this machine: slipway up",
            )
        authorization = _authorization(
            key=environment.get("PREFECT_API_KEY", "").strip(),
            user=environment.get("PREFECT_API_AUTH_STRING", "").strip(),
        )
        return cls(url, authorization, environment.get("PREFECT_UI_URL"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def is_healthy(self) -> bool:
        """Return whether the server answers."""
        try:
            return self._http.get("/health", timeout=2).is_success
        except httpx.HTTPError:
            return False

    @property
    def ui_root(self) -> str:
        """Address of the UI that `/` opens: a server may have two, and links to either work."""
        if self._ui:
            return self._ui
        if cloud := _CLOUD.fullmatch(self.url):
            domain, account, workspace = cloud.groups()
            return f"https://app{domain}/account/{account}/workspace/{workspace}"
        return self._ui_of(self._ui_settings.get("default_ui", ""))

    @property
    def form_root(self) -> str:
        """Address of the UI whose form for approval shows what is approved: not that of v2."""
        on_server = not self._ui and not is_cloud(self.url)
        return self._ui_of("v1") if on_server else self.ui_root

    @cached_property
    def _ui_settings(self) -> dict[str, Any]:
        root = self.url.removesuffix("/api")
        try:
            response = self._http.get(f"{root}/ui-settings", timeout=2).raise_for_status()
            settings: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError):
            return {}  # a server without the choice, or one that does not answer
        return settings

    def _ui_of(self, version: str) -> str:
        path = self._ui_settings.get(f"{version}_base_url") or ""
        return f"{self.url.removesuffix('/api')}{path}".rstrip("/")

    def run_events(self, run_id: str) -> RunEvents:
        """Return a connection to the events of a run, not yet open."""
        return RunEvents(self.url, self._authorization, run_id, local=self._local)

    def get(self, path: str) -> Any:
        """Send a GET request."""
        return self.request("GET", path)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a POST request."""
        return self.request("POST", path, body)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        optional: bool = False,
    ) -> Any:
        """Send a request.

        Args:
            method: `GET`, `POST`, ...
            path: Path below the API URL.
            body: JSON to send.
            optional: Whether to return None for an object that does not exist.

        Returns:
            The JSON of the answer, None if it is empty.

        Raises:
            ConfigurationError: Wrong credentials, or the URL is not that of an API.
            TerminalError: The server refused the request.
            TransientError: The server does not answer, or failed.
        """
        try:
            response = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise TransientError(
                f"the Prefect server at {self.url} does not answer: {error}",
                state="runs that have started go on",
                next_step="slipway status"
                if self._local
                else "check PREFECT_API_URL, and that the server runs and can be reached from here",
            ) from error
        if not _is_api(response):
            raise ConfigurationError(
                f"the answer of {self.url} is not that of a Prefect API",
                state="this request started nothing",
                next_step="set PREFECT_API_URL to the API URL, which ends in /api"
                " (`prefect config view` shows it)",
            )
        if optional and response.status_code == 404:
            return None
        if response.is_error:
            raise self._explain(f"{method} {path}", response)
        return response.json() if response.content else None

    def _explain(self, request: str, response: httpx.Response) -> SlipwayError:
        """Return the error for an answer that is one."""
        code = response.status_code
        if code in {401, 403}:
            return ConfigurationError(
                f"the Prefect server at {self.url} refused the key ({code})",
                state="this request started nothing",
                next_step="set PREFECT_API_KEY to an API key of Prefect Cloud that may use this"
                " workspace, or to the user:password of your own server",
            )
        kind = TransientError if code >= 500 or code == 429 else TerminalError
        return kind(
            f"{request}: the Prefect server answered {code}: {response.text[:500]}",
            state="this request started nothing",
            next_step=f"open {self.ui_root}",
        )


def _is_api(response: httpx.Response) -> bool:
    """Return False if a web page answered, or a server that does not know the route at all."""
    if response.status_code == 404:
        return response.text != '{"detail":"Not Found"}'  # of an object, it names the object
    if response.is_redirect:  # to a login page, or from http to https
        return False
    is_json = response.headers.get("content-type", "").startswith("application/json")
    return is_json or not (response.is_success and response.content)


def _is_url(text: str) -> bool:
    try:
        httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return re.fullmatch(r"https?://[^\s/]+(/\S*)?", text) is not None


def _authorization(*, key: str, user: str) -> str:
    if login := user or (key if ":" in key else ""):
        return basic(login)
    return f"Bearer {key}" if key else ""
