"""Verify the signature of a release again, where it runs, before its model is unpickled.

The format is that of OpenSSF's `model-signing` 1.0, as the deployer writes and verifies it. The
server knows nothing of the deployer's code, and needs `cryptography` alone.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEYS = "signers.pem"  # the keys that the deploying side allows; without it nothing is required
PREDICATE = "https://model_signing/signature/v1.0"
PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----\n", re.DOTALL)
CODE = Path(__file__).parent


class SignatureError(Exception):
    """The release is not what an allowed signer has signed; the message says why."""


def verify_release(folder: Path, name: str, sha256: str) -> str | None:
    """Verify all that is here of a release: the model's files, and this server's code.

    Args:
        folder: the bundle.
        name: name of the model.
        sha256: of the model file that is about to be loaded.

    Returns:
        The digest of the key that signed it; None if the deployer requires no signature.

    Raises:
        SignatureError: there is no valid signature, or a file is not as it was signed.
    """
    if not (folder / KEYS).exists():
        return None
    try:
        bundle = json.loads((folder / f"{name}.sig").read_bytes())
        key, digests = _open(bundle, (folder / KEYS).read_bytes(), name)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise SignatureError(f"{name}.sig cannot be read: {error!r}") from error
    if digests.get(f"model/{name}") != sha256:
        raise SignatureError(f"{name} is not the file that was signed")
    metadata = [f"{name}{suffix}" for suffix in (".mlem", ".golden.json", ".runtime.json")]
    signed = {f"model/{file}": folder / file for file in metadata}
    provenance = f"{name}.provenance.json"
    if f"model/{provenance}" in digests:
        signed[f"model/{provenance}"] = folder / provenance
    signed |= {f"serving/{path.relative_to(CODE).as_posix()}": path for path in CODE.rglob("*.py")}
    # Of the server's other files an image leaves hidden ones out.
    signed |= {
        path: CODE.parent / path
        for path in digests
        if path.startswith("serving/") and "/." not in path
    }
    for path, file in sorted(signed.items()):
        if not file.is_file() or digests.get(path) != hashlib.sha256(file.read_bytes()).hexdigest():
            raise SignatureError(f"{path} is not the file that was signed")
    return key


def _open(bundle: Mapping[str, Any], keys: bytes, name: str) -> tuple[str, dict[str, str]]:
    """Return the key of a bundle and the digests that it states, if its signature is valid."""
    # Imported here: a server without signatures starts without these 20 ms and 10 MB.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    hint = bundle["verificationMaterial"]["publicKey"]["hint"]
    allowed = {hashlib.sha256(pem).hexdigest(): pem for pem in PEM.findall(keys)}
    if hint not in allowed:
        raise SignatureError(f"the key that signed {name} ({str(hint)[:12]}) is not allowed")
    key = load_pem_public_key(allowed[hint])
    kind = bundle["dsseEnvelope"]["payloadType"]
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, message)
        elif isinstance(key, EllipticCurvePublicKey):
            sizes = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
            key.verify(signature, message, ECDSA(sizes[key.curve.key_size]))
        else:
            raise SignatureError(f"the key that signed {name} is of an unknown kind")
    except InvalidSignature:
        raise SignatureError(f"the signature of {name} is of other bytes") from None
    statement = json.loads(payload)
    (subject,) = statement["subject"]
    if (statement["predicateType"], subject["name"]) != (PREDICATE, name):
        raise SignatureError(f"the signature is not of model {name}")
    resources = statement["predicate"]["resources"]
    return hint, {entry["name"]: entry["digest"] for entry in resources}
