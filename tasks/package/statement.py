"""Statements of what belongs to a model version, and their signatures; pure functions.

The format is that of OpenSSF's `model-signing` 1.0: an in-toto statement in a DSSE envelope in a
Sigstore bundle, so that `model_signing verify key` accepts it. That package and what it needs take
50 MB, which is more than this module.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey
PublicKey = EllipticCurvePublicKey | Ed25519PublicKey

# The namespace in `allowed_signers` of keys that may sign models.
NAMESPACE = "slipway"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://model_signing/signature/v1.0"
_HASHES = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}  # by size of the curve
_KEY_TYPES = ("ssh-", "ecdsa-", "sk-")


class StatementError(Exception):
    """A statement that proves nothing; the message says which check failed."""


@dataclass(frozen=True)
class Signer:
    """An allowed signer: the name that the deploying side gives it, and its public key."""

    name: str
    key: PublicKey

    @property
    def pem(self) -> bytes:
        """The public key as PEM."""
        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def hint(self) -> str:
        """The digest by which a signature names its key."""
        return hashlib.sha256(self.pem).hexdigest()


@dataclass(frozen=True)
class Statement:
    """The content of a statement whose signature is valid.

    Attributes:
        model: Name of the model.
        digests: SHA-256 of its files, by path in the repository.
        signer: Who signed it.
    """

    model: str
    digests: Mapping[str, str]
    signer: Signer


def read_signers(allowed_signers: str) -> list[Signer]:
    """Read the signers whose keys may sign models.

    Lines with options that cannot be checked here, such as a time of validity, allow nobody.

    Args:
        allowed_signers: Content of a file of that name, as OpenSSH describes it.
    """
    signers = []
    for line in allowed_signers.splitlines():
        words = line.split()
        at = next((n for n, word in enumerate(words) if word.startswith(_KEY_TYPES)), 0)
        options = words[1:at]
        if not at or words[0].startswith("#") or not all(map(_allows_models, options)):
            continue
        try:
            key = load_ssh_public_key(" ".join(words[at : at + 2]).encode())
        except (ValueError, UnsupportedAlgorithm):
            continue
        if isinstance(key, PublicKey):
            signers.append(Signer(words[0], key))
    return signers


def _allows_models(option: str) -> bool:
    name, _, value = option.partition("=")
    return name.lower() == "namespaces" and NAMESPACE in value.strip('"').split(",")


def read_private_key(file: Path, password: str | None = None) -> PrivateKey:
    """Read a key to sign with.

    Raises:
        ValueError: It is none, or of a kind that cannot sign statements.
        TypeError: The password is missing, or none is needed.
    """
    key = load_ssh_private_key(file.read_bytes(), password.encode() if password else None)
    if not isinstance(key, PrivateKey):
        raise ValueError("only ECDSA and Ed25519 keys sign models")
    return key


def sign(model: str, digests: Mapping[str, str], key: PrivateKey) -> str:
    """Return the signature of a model's files: a Sigstore bundle, as JSON.

    Args:
        model: Name of the model.
        digests: SHA-256 of its files, by path in the repository.
        key: The key.
    """
    ordered = sorted(digests.items())
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in ordered))
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": model, "digest": {"sha256": root.hexdigest()}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest} for name, digest in ordered
            ],
        },
    }
    payload = json.dumps(statement, indent=2).encode()
    message = _encode(payload)
    if isinstance(key, Ed25519PrivateKey):
        signature = key.sign(message)
    else:
        signature = key.sign(message, ECDSA(_HASHES[key.curve.key_size]))
    bundle = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": Signer("", key.public_key()).hint}},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(bundle, indent=2) + "\n"


def verify(bundle: str, signers: list[Signer]) -> Statement:
    """Return what a bundle states, if an allowed signer has signed it.

    Raises:
        StatementError: Its key is not allowed, the signature is of other bytes, or it is no
            statement on a model.
    """
    try:
        content = json.loads(bundle)
        hint = content["verificationMaterial"]["publicKey"]["hint"]
        envelope = content["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise StatementError(f"the signature cannot be read: {error!r}") from error
    signer = next((signer for signer in signers if signer.hint == hint), None)
    if signer is None:
        raise StatementError(f"the key that signed it ({str(hint)[:12]}) is not allowed")
    try:
        if isinstance(signer.key, Ed25519PublicKey):
            signer.key.verify(signature, _encode(payload))
        else:
            algorithm = ECDSA(_HASHES[signer.key.curve.key_size])
            signer.key.verify(signature, _encode(payload), algorithm)
    except InvalidSignature:
        raise StatementError(f"the signature of {signer.name} is of other bytes") from None
    return _parse(json.loads(payload), signer)


def _parse(statement: Any, signer: Signer) -> Statement:
    try:
        if (statement["_type"], statement["predicateType"]) != (_STATEMENT, _PREDICATE):
            raise StatementError("the signature is not of a model")
        (subject,) = statement["subject"]
        resources = statement["predicate"]["resources"]
        digests = {str(entry["name"]): str(entry["digest"]) for entry in resources}
        return Statement(str(subject["name"]), digests, signer)
    except (ValueError, KeyError, TypeError) as error:
        raise StatementError(f"the statement cannot be read: {error!r}") from error


def differences(signed: Mapping[str, str], actual: Mapping[str, str]) -> dict[str, str]:
    """Return a sentence on each file that is not as it was signed, by its path."""
    faults = {}
    for path in sorted(signed.keys() | actual.keys()):
        if path not in actual:
            faults[path] = f"{path} was signed and is missing"
        elif path not in signed:
            faults[path] = f"{path} was not signed"
        elif signed[path] != actual[path]:
            faults[path] = f"{path} is not the file that was signed"
    return faults


def _encode(payload: bytes) -> bytes:
    """Encode a payload for its signature, as DSSE does ("PAE")."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)
