"""The client of container registries, with errors of ours."""

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

_SECONDS = 60.0  # without a byte from the registry
_CHUNK = 1 << 20
# Docker Hub's registry is on another host than its images' names say.
_HUB_HOST = "registry-1.docker.io"
_NO_DELETING = {400, 401, 403, 404, 405}


@dataclass(frozen=True)
class Login:
    """Credentials for a registry; the password may be a token."""

    username: str
    password: SecretStr


@dataclass(frozen=True)
class Manifest:
    """A document in a registry that lists the parts of an image.

    Attributes:
        content: The exact bytes; the digest is their hash.
    """

    content: bytes

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Make the manifest of a document."""
        return cls(json.dumps(document, indent=2).encode())

    @property
    def document(self) -> dict[str, Any]:
        """The parsed content."""
        return dict(json.loads(self.content))

    @property
    def digest(self) -> str:
        """The name of the manifest in registries."""
        return sha256(self.content)

    def describe(self) -> dict[str, Any]:
        """Return the descriptor by which other manifests refer to this one."""
        kind = self.document["mediaType"]
        return {"mediaType": kind, "size": len(self.content), "digest": self.digest}


class Repository:
    """One repository of a registry, over plain HTTP on this host, else over TLS.

    Args:
        reference: Registry and repository; tag and digest do not matter.
        login: None for a registry that needs no credentials.
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
        """Fetch the manifest of a digest or tag; return None if there is none.

        Raises:
            TerminalError: The registry denies access.
            TransientError: The registry does not answer, or returns another manifest.
        """
        with self._explaining_errors(f"pull of {version}"):
            try:
                _, answer = self._api.get_manifest_and_response(version)
            except requests.HTTPError as error:
                if _status(error) == 404:
                    return None
                raise
        manifest = Manifest(answer.content)
        if version.startswith("sha256:") and manifest.digest != version:
            raise TransientError(
                f"{self.name} returned manifest {manifest.digest} instead of {version}",
                state="nothing was changed",
                next_step="run the flow again; if this repeats, the registry is damaged",
            )
        return manifest

    def has(self, digest: str) -> bool:
        """Check that the repository has a blob."""
        with self._explaining_errors(f"look-up of {digest}"):
            try:
                self._api.blob_size(digest)
            except requests.HTTPError as error:
                if _status(error) == 404:
                    return False
                raise
        return True

    def fetch(self, digest: str, path: Path) -> None:
        """Download a blob and check its digest, unless this host has it.

        Args:
            digest: Digest of the blob.
            path: File to write; one that exists is complete.
        """
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid4().hex[:8]}.partial")
        try:
            with self._explaining_errors(f"pull of {digest}"), partial.open("wb") as out:
                out.writelines(self._pull(digest))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def read(self, digest: str) -> bytes:
        """Download a small blob."""
        with self._explaining_errors(f"pull of {digest}"):
            return b"".join(self._pull(digest))

    def upload(self, layer: Layer) -> bool:
        """Upload a layer of this host; return False if the repository has it already."""
        if self.has(layer.digest):
            return False
        assert layer.path, "a layer that is only in a registry is copied"
        with self._explaining_errors(f"push of {layer.digest}"):
            self._api.push_blob(str(layer.path), check_exists=False)
        return True

    def try_push(self) -> None:
        """Check the right to push, by starting an upload and cancelling it.

        Raises:
            TerminalError: The registry denies access.
            TransientError: The registry does not answer.
        """
        with self._explaining_errors("push"):
            upload = self._api.start_upload()
        with contextlib.suppress(requests.RequestException, DXFError):
            self._api.cancel_upload(upload)  # else it expires

    def write(self, content: bytes) -> str:
        """Upload a small blob, and return its digest."""
        digest = sha256(content)
        if not self.has(digest):
            with self._explaining_errors(f"push of {digest}"):
                self._api.push_blob(data=iter([content]), digest=digest, check_exists=False)
        return digest

    def put(self, manifest: Manifest, tag: str | None = None) -> str:
        """Upload a manifest, and return its digest; the repository must have all its parts.

        Args:
            manifest: The manifest.
            tag: A tag for it; another manifest that has the tag loses it.
        """
        with self._explaining_errors(f"push of {tag or manifest.digest}"):
            self._api.set_manifest(tag or manifest.digest, manifest.content.decode())
        return manifest.digest

    def tags(self) -> list[str]:
        """List the tags in the repository, sorted."""
        with self._explaining_errors("list of tags"):
            try:
                return sorted(self._api.list_aliases())
            except requests.HTTPError as error:
                if _status(error) == 404:  # nothing has been pushed yet
                    return []
                raise

    def drop(self, digest: str) -> bool:
        """Delete a manifest with all its tags; the registry's own collector frees the space.

        Returns:
            False if the registry allows no deletion: many have retention rules instead.
        """
        with self._explaining_errors(f"deletion of {digest}"):
            try:
                self._api.delete_manifest(digest)
            except (requests.HTTPError, DXFUnauthorizedError) as error:
                status = _status(error) if isinstance(error, requests.HTTPError) else 401
                if status in _NO_DELETING:
                    return status == 404
                raise
        return True

    def _pull(self, digest: str) -> Iterable[bytes]:
        # Without `size` it yields chunks alone, and checks the digest after the last one.
        return cast("Iterable[bytes]", self._api.pull_blob(digest, chunk_size=_CHUNK))

    def _authenticate(self, api: DXFBase, answer: requests.Response) -> None:
        if self._login is None:
            api.authenticate(response=answer)
        else:
            password = self._login.password.get_secret_value()
            api.authenticate(self._login.username, password, response=answer)

    @contextlib.contextmanager
    def _explaining_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except DXFAuthInsecureError as error:
            raise ConfigurationError(
                f"{self.name} requires a password over plain HTTP, which was not sent",
                state="nothing was pushed",
                next_step="give the registry a certificate, or remove its password",
            ) from error
        except DXFUnauthorizedError as error:
            raise self._denied(action, 401) from error
        except requests.HTTPError as error:
            status = _status(error)
            if status in {401, 403}:
                raise self._denied(action, status) from error
            kind = TransientError if status == 429 or status >= 500 else TerminalError
            raise kind(
                f"{self.name}: {action} failed: {status} {error.response.text[:300]}",
                state="the live model is unchanged",
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
                f"{self.name}: {action} failed: {type(error).__name__}: {error}",
                state="the live model is unchanged",
                next_step="check that the registry runs, then run the flow again",
            ) from error

    def _denied(self, action: str, status: int) -> TerminalError:
        who = f"as user {self._login.username}" if self._login else "no credentials configured"
        return TerminalError(
            f"{self.name}: {action} was denied ({status}): {who}",
            state="the live model is unchanged",
            next_step="check the registry's credentials and their right to push to this repository",
        )


class _Registry(DXF):
    """The client of dxf, with calls that it makes only as part of others."""

    def start_upload(self) -> str:
        answer = self._request("post", "blobs/uploads/")  # type: ignore[no-untyped-call]
        return str(answer.headers["Location"])

    def cancel_upload(self, upload: str) -> None:
        # Registries behind a proxy name themselves with http, where no token should go.
        secure = self._base_url.partition(":")[0]
        url = urlsplit(urljoin(self._base_url, upload))._replace(scheme=secure).geturl()
        self._base_request("delete", url)  # type: ignore[no-untyped-call]

    def delete_manifest(self, digest: str) -> None:
        # dxf deletes manifests of images only, and not what refers to them.
        self._request("delete", f"manifests/{digest}")  # type: ignore[no-untyped-call]


def sha256(content: bytes) -> str:
    """Return the digest of some bytes, as registries write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _status(error: requests.HTTPError) -> int:
    return error.response.status_code
