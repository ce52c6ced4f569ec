"""Names of images: `registry/repository:tag@digest`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tasks.core.errors import ConfigurationError

HUB = "docker.io"
_NAME = re.compile(
    r"(?:(?P<host>[^/@]+)/)?"
    r"(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_LOOPBACK = re.compile(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?")


@dataclass(frozen=True)
class Reference:
    """Where an image is, or a repository if it has neither tag nor digest.

    Attributes:
        host: Registry, with its port.
        repository: Repository in the registry.
        tag: A name that may move.
        digest: Hash of the manifest.
    """

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.host}/{self.repository}"

    @property
    def version(self) -> str:
        """What the registry is asked for: the digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    @property
    def on_loopback(self) -> bool:
        """Whether the registry is on this host, where plain HTTP is spoken."""
        return bool(_LOOPBACK.fullmatch(self.host))

    def at(self, digest: str) -> Reference:
        """The same repository at a digest, which is how images are deployed."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse_reference(text: str) -> Reference:
    """Read an image's name as Docker does: `python:3.12-slim` is on Docker Hub.

    Args:
        text: The name.

    Returns:
        The reference, registry and repository written out.

    Raises:
        ConfigurationError: That is no name of an image.
    """
    host, _, rest = text.partition("/")
    if not rest or not (set(host) & set(".:") or host == "localhost"):
        text = f"{HUB}/{text if rest else f'library/{text}'}"
    found = _NAME.fullmatch(text)
    if found is None:
        raise ConfigurationError(
            f"{text!r} is no name of an image",
            state="nothing was started",
            next_step="write registry/repository:tag, in small letters",
        )
    return Reference(**found.groupdict())
