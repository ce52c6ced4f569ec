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
    """The name of an image, or of a repository if it has neither tag nor digest.

    Attributes:
        host: Registry, with its port.
        tag: A name that can move to another image.
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
        """The digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    @property
    def on_loopback(self) -> bool:
        """True for a registry on this host, which needs no TLS."""
        return bool(_LOOPBACK.fullmatch(self.host))

    def at(self, digest: str) -> Reference:
        """Return the same repository at a digest, the form in which images are deployed."""
        return replace(self, tag=None, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse_reference(text: str) -> Reference:
    """Read an image's name as Docker does: `python:3.12-slim` is on Docker Hub.

    Raises:
        ConfigurationError: The name is invalid.
    """
    host, _, rest = text.partition("/")
    if not rest or not (set(host) & set(".:") or host == "localhost"):
        text = f"{HUB}/{text if rest else f'library/{text}'}"
    match = _NAME.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"invalid image name {text!r}",
            state="nothing was started",
            next_step="write registry/repository:tag, in lower case",
        )
    return Reference(**match.groupdict())
