"""Registries: where images are, and what their errors mean."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import urljoin, urlsplit
from uuid import uuid4

import requests
from dxf import DXF, DXFBase
from dxf.exceptions import DXFAuthInsecureError, DXFError, DXFUnauthorizedError
from pydantic import SecretStr

from tasks.core.errors import ConfigurationError, TerminalError, TransientError
from tasks.images.layers import Layer
from tasks.images.reference import HUB, Reference

_SECONDS = 60.0  # without a sign of life
_CHUNK = 1 << 20
# Where Docker Hub's registry is; everybody else's is where its name says.
_HUB_HOST = "registry-1.docker.io"
_NO_DELETING = {400, 401, 403, 404, 405}


@dataclass(frozen=True)
class Login:
    """Who we are to a registry.

    Attributes:
        username: Its name.
        password: Its password or token.
    """

    username: str
    password: SecretStr


@dataclass(frozen=True)
class Manifest:
    """A document in a registry that says what an image consists of.

    Attributes:
        content: Its bytes, of which the digest is the hash.
    """

    content: bytes

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """The manifest that a document makes."""
        return cls(json.dumps(document, indent=2).encode())

    @property
    def document(self) -> dict[str, Any]:
        """What it says."""
        return dict(json.loads(self.content))

    @property
    def digest(self) -> str:
        """What it is known by."""
        return sha256(self.content)

    def describe(self) -> dict[str, Any]:
        """The manifest as other manifests name it."""
        kind = self.document["mediaType"]
        return {"mediaType": kind, "size": len(self.content), "digest": self.digest}


class Repository:
    """One repository of a registry. Over plain HTTP on this host, else over TLS.

    Args:
        reference: Where it is.
        login: Who we are, None for nobody in particular.
    """

    def __init__(self, reference: Reference, login: Login | None = None) -> None:
        self.name = reference.name
        self._login = login
        self._api = _Registry(
            _HUB_HOST if reference.host == HUB else reference.host,
            reference.repository,
            self._authenticate,
            insecure=reference.on_loopback,
            timeout=_SECONDS,
        )

    def manifest(self, version: str) -> Manifest | None:
        """Fetch a manifest.

        Args:
            version: Its digest or tag.

        Returns:
            The manifest, None if there is none.

        Raises:
            TerminalError: The registry refuses, or its answer is not what has that digest.
            TransientError: The registry does not answer.
        """
        with self._asked(f"give {version}"):
            try:
                _, answer = self._api.get_manifest_and_response(version)
            except requests.HTTPError as error:
                if _status(error) == 404:
                    return None
                raise
        found = Manifest(answer.content)
        if version.startswith("sha256:") and found.digest != version:
            raise TransientError(
                f"{self.name} answers {found.digest} when asked for {version}",
                state="nothing was changed",
                next_step="run the same again; if it stays so, the registry is damaged",
            )
        return found

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        with self._asked(f"say whether it has {digest}"):
            try:
                self._api.blob_size(digest)
            except requests.HTTPError as error:
                if _status(error) == 404:
                    return False
                raise
        return True

    def fetch(self, digest: str, path: Path) -> None:
        """Download a blob, unless it is there already.

        Args:
            digest: Its hash, which is checked.
            path: Where to; a file at this path is complete.
        """
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")
        try:
            with self._asked(f"give {digest}"), partial.open("wb") as out:
                out.writelines(self._pull(digest))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def read(self, digest: str) -> bytes:
        """Download a small blob."""
        with self._asked(f"give {digest}"):
            return b"".join(self._pull(digest))

    def upload(self, layer: Layer) -> bool:
        """Upload a layer of this host, unless it is there already.

        Args:
            layer: The layer.

        Returns:
            Whether that was necessary.
        """
        if self.has(layer.digest):
            return False
        assert layer.path, "a layer that is only in a registry is copied"
        with self._asked(f"take {layer.digest}"):
            self._api.push_blob(str(layer.path), check_exists=False)
        return True

    def try_push(self) -> None:
        """Find out whether images may be pushed: an upload is begun and given up.

        Raises:
            TerminalError: The registry refuses.
            TransientError: The registry does not answer.
        """
        with self._asked("take images"):
            upload = self._api.begin_upload()
        with contextlib.suppress(requests.RequestException, DXFError):
            self._api.give_up(upload)  # else it expires

    def write(self, content: bytes) -> str:
        """Upload a small blob.

        Args:
            content: Its bytes.

        Returns:
            Its digest.
        """
        digest = sha256(content)
        if not self.has(digest):
            with self._asked(f"take {digest}"):
                self._api.push_blob(data=iter([content]), digest=digest, check_exists=False)
        return digest

    def put(self, manifest: Manifest, tag: str | None = None) -> str:
        """Upload a manifest; all that it names must be there.

        Args:
            manifest: The manifest.
            tag: A name for it, which moves here from whatever had it.

        Returns:
            Its digest.
        """
        with self._asked(f"take {tag or manifest.digest}"):
            self._api.set_manifest(tag or manifest.digest, manifest.content.decode())
        return manifest.digest

    def tags(self) -> list[str]:
        """The tags in the repository, sorted."""
        with self._asked("list its tags"):
            try:
                return sorted(self._api.list_aliases())
            except requests.HTTPError as error:
                if _status(error) == 404:  # nothing has been pushed yet
                    return []
                raise

    def drop(self, digest: str) -> bool:
        """Delete a manifest with all its tags; the registry's own collector frees the space.

        Args:
            digest: Its digest.

        Returns:
            Whether it is gone; many registries leave deleting to rules of their own.
        """
        with self._asked(f"drop {digest}"):
            try:
                self._api.delete_manifest(digest)
            except (requests.HTTPError, DXFUnauthorizedError) as error:
                status = _status(error) if isinstance(error, requests.HTTPError) else 401
                if status in _NO_DELETING:
                    return status == 404
                raise
        return True

    def _pull(self, digest: str) -> Iterable[bytes]:
        # Without `size`, what comes is only the chunks, checked against the digest at the end.
        return cast("Iterable[bytes]", self._api.pull_blob(digest, chunk_size=_CHUNK))

    def _authenticate(self, api: DXFBase, answer: requests.Response) -> None:
        if self._login is None:
            api.authenticate(response=answer)
        else:
            password = self._login.password.get_secret_value()
            api.authenticate(self._login.username, password, response=answer)

    @contextlib.contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        try:
            yield
        except DXFAuthInsecureError as error:
            raise ConfigurationError(
                f"{self.name} wants a password over plain HTTP, which was not sent",
                state="nothing was pushed",
                next_step="give the registry a certificate, or remove its password",
            ) from error
        except DXFUnauthorizedError as error:
            raise self._refused(what, 401) from error
        except requests.HTTPError as error:
            status = _status(error)
            if status in {401, 403}:
                raise self._refused(what, status) from error
            kind = TransientError if status == 429 or status >= 500 else TerminalError
            raise kind(
                f"{self.name} does not {what}: {status} {error.response.text[:300]}",
                state="what is live is as it was",
                next_step="check the repository's name and the registry, then run the flow again",
            ) from error
        except requests.exceptions.SSLError as error:
            raise TerminalError(
                f"{self.name} has no certificate that this host trusts: {error}",
                state="nothing was sent",
                next_step="set REQUESTS_CA_BUNDLE to the certificate of its authority",
            ) from error
        except (requests.RequestException, DXFError) as error:
            raise TransientError(
                f"{self.name} did not {what}: {type(error).__name__}: {error}",
                state="what is live is as it was",
                next_step="check that the registry runs, then run the flow again",
            ) from error

    def _refused(self, what: str, status: int) -> TerminalError:
        who = self._login.username if self._login else "nobody in particular"
        return TerminalError(
            f"{self.name} refuses to {what} for {who}: {status}",
            state="what is live is as it was",
            next_step="check the registry's credentials, and that they may push to this repository",
        )


class _Registry(DXF):
    """dxf, with calls that it makes only as part of others."""

    def begin_upload(self) -> str:
        begun = self._request("post", "blobs/uploads/")  # type: ignore[no-untyped-call]
        return str(begun.headers["Location"])

    def give_up(self, upload: str) -> None:
        # Registries behind a proxy name themselves with http, where no token should go.
        secure = self._base_url.partition(":")[0]
        url = urlsplit(urljoin(self._base_url, upload))._replace(scheme=secure).geturl()
        self._base_request("delete", url)  # type: ignore[no-untyped-call]

    def delete_manifest(self, digest: str) -> None:
        # dxf deletes manifests of images only, and not what refers to them.
        self._request("delete", f"manifests/{digest}")  # type: ignore[no-untyped-call]


def sha256(content: bytes) -> str:
    """Digest of some bytes, as registries write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _status(error: requests.HTTPError) -> int:
    return error.response.status_code
