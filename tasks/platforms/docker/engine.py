"""A Docker engine: our containers on it, and the errors that its failures become."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import requests
from docker import DockerClient
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container
from docker.utils import kwargs_from_env

from tasks.core.errors import TerminalError, TransientError
from tasks.images.image import LABEL
from tasks.images.registry import Login
from tasks.platforms.base.no_answer import UNCHANGED, no_answer

_SECONDS = 60
# What a proxy in front of an engine says of this moment, not of the request.
_PASSING = {408, 425, 429}
# More than the 30 s that a server gives the requests under way.
_STOP_SECONDS = 35


class Engine:
    """The engine of one host.

    Args:
        url: Its address; empty for the engine that the command `docker` uses.
    """

    def __init__(self, url: str = "") -> None:
        self._url = url

    def version(self) -> str:
        """Return the version of Docker."""
        with _explaining_errors("tell its version"):
            return str(self._client.version()["Version"])

    def pull(self, image: str, login: Login | None) -> None:
        """Get an image from its registry.

        Args:
            image: Its name, by digest.
            login: Login to the registry.
        """
        who: dict[str, str] | None = None
        if login:
            who = {"username": login.username, "password": login.password.get_secret_value()}
        request = f"pull {image}"
        with _explaining_errors(request):
            # Not the SDK's own `images.pull`, which drops the reason that the engine gives.
            name, digest = image.split("@")
            for event in self._client.api.pull(name, tag=digest, auth_config=who).splitlines():
                with suppress(ValueError):  # an answer of something else than an engine
                    if reason := json.loads(event).get("error"):
                        raise _refusal(request, reason, 500)
            self._client.images.get(image)

    def start(self, name: str, image: str, options: Mapping[str, Any], login: Login | None) -> None:
        """Start a container; one of that name that is there already is started again.

        Args:
            image: Its image, by digest; it is pulled if it is not there.
            options: Further options of the Docker SDK.
            login: Login to its registry.
        """
        with _explaining_errors(f"start {name}"):
            try:
                container = self._client.containers.get(name)
            except NotFound:
                container = self._create(name, image, options, login)
            container.start()

    def _create(
        self, name: str, image: str, options: Mapping[str, Any], login: Login | None
    ) -> Container:
        try:
            return self._client.containers.create(image, name=name, **options)
        except ImageNotFound:  # another environment that shares the repository has tidied
            self.pull(image, login)
            return self._client.containers.create(image, name=name, **options)

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """List the containers with these labels of ours, running or not."""
        filters: dict[str, str | list[str] | bool] = {
            "label": [f"{LABEL}.{name}={value}" for name, value in labels.items()]
        }
        with _explaining_errors("list its containers"):
            containers = self._client.containers.list(
                all=True, filters=filters, ignore_removed=True
            )
            return list(containers)

    def resume(self, container: Container) -> None:
        """Start a container again that was stopped."""
        with _explaining_errors(f"start {container.name}"):
            container.start()

    def stop(self, container: Container) -> None:
        """Let a container finish its work and stop it; it stays stopped over a reboot."""
        with _explaining_errors(f"stop {container.name}"), suppress(NotFound):
            container.stop(timeout=_STOP_SECONDS)

    def remove(self, container: Container) -> None:
        """Remove a container, stopped or not."""
        with _explaining_errors(f"remove {container.name}"), suppress(NotFound):
            container.remove(force=True, v=True)

    def remove_images(self, repository: str) -> None:
        """Remove the images of a repository that no container was made from."""
        with _explaining_errors(f"remove images of {repository}"):
            # The engine itself would let go of a name in use, if the image has another one.
            there = self._client.containers.list(all=True, ignore_removed=True)
            used = {container.attrs["Config"]["Image"] for container in there}
            for image in self._client.images.list():
                for name in image.attrs.get("RepoDigests") or []:
                    if name.startswith(f"{repository}@") and name not in used:
                        self._remove_image(name)

    def _remove_image(self, name: str) -> None:
        try:
            self._client.images.remove(name)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:  # a container needs it
                raise

    def has_ended(self, container: Container) -> bool:
        """Return whether a container has ended, or was started again because it had."""
        with _explaining_errors(f"look at {container.name}"):
            try:
                container.reload()
            except NotFound:
                return True
        return container.status != "running" or container.attrs["RestartCount"] > 0

    def last_lines(self, container: Container, lines: int = 12) -> str:
        """Return the last lines of a container's log."""
        with _explaining_errors(f"read the log of {container.name}"):
            try:
                log: bytes = container.logs(tail=lines)
            except NotFound:
                return ""
        return log.decode(errors="replace").strip()

    @cached_property
    def _client(self) -> DockerClient:
        where = {"base_url": self._url} if self._url else kwargs_from_env()
        return DockerClient(timeout=_SECONDS, **where)


@contextmanager
def _explaining_errors(request: str) -> Iterator[None]:
    try:
        yield
    except APIError as error:
        # An image that is gone was tidied away as soon as it was pulled: the next try pulls again.
        gone = isinstance(error, ImageNotFound)
        code = error.status_code or 500
        raise _refusal(request, error.explanation or str(error), code, passing=gone) from error
    except KeyError as error:
        # The SDK expects JSON of an engine, where a proxy in front of it has answered.
        cause = error.__context__
        if not isinstance(cause, requests.HTTPError):
            raise
        raise _refusal(request, cause.response.text[:300], cause.response.status_code) from error
    except (DockerException, requests.RequestException) as error:
        raise no_answer(
            "the Docker engine",
            request,
            error,
            next_step="start it on the worker's host, let the worker's user into the group"
            " `docker`, then run the flow again",
        ) from error


def _refusal(
    request: str, reason: str, code: int, *, passing: bool = False
) -> TransientError | TerminalError:
    kind = TransientError if passing or code in _PASSING or code >= 500 else TerminalError
    return kind(
        f"Docker could not {request}: {reason}",
        state=UNCHANGED,
        next_step="check `docker info` on the worker's host, then run the flow again",
    )
