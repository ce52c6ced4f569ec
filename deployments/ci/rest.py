"""Requests to the REST API of a Git host, by a job that publishes a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from tasks.core.errors import TerminalError, TransientError

_PAGE = 100


@dataclass(frozen=True)
class RestAPI:
    """The API of one repository, or project.

    Attributes:
        client: Sends the requests.
        host: Name of the Git host.
        state: What is unchanged if a request fails.
        report: Where the report is all the same.
        permission: How the job gets the right to publish.
    """

    client: httpx.Client
    host: str
    state: str
    report: str
    permission: str

    def request(self, method: str, path: str, **content: Any) -> Any:
        """Send a request, and return the JSON of the answer.

        Raises:
            TransientError: The host does not answer, or fails.
            TerminalError: It refuses.
        """
        try:
            response = self.client.request(method, path, **content)
        except httpx.HTTPError as error:
            raise TransientError(
                f"{self.host} does not answer: {error}",
                state=self.state,
                next_step="run this job again",
            ) from error
        if response.is_error:
            kind = TransientError if response.status_code >= 500 else TerminalError
            raise kind(
                f"{method} {path}: {self.host} answers {response.status_code}:"
                f" {response.text[:300]}",
                state=f"{self.state}; the report is in {self.report}",
                next_step=f"give the job {self.permission}, then run it again",
            )
        return response.json()

    def read_list(self, path: str, **query: str) -> Iterator[Mapping[str, Any]]:
        """Yield the items of a list, page by page."""
        page = 1
        while True:
            parameters = {**query, "per_page": str(_PAGE), "page": str(page)}
            items = self.request("GET", path, params=parameters)
            yield from items
            if len(items) < _PAGE:
                return
            page += 1
