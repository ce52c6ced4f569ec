"""Documents beside an image in its registry, which refer to it: bill of materials, signature."""

from __future__ import annotations

from tasks.images.registry import Manifest, Repository

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


def attach(repository: Repository, image: Manifest, content: bytes, kind: str) -> str:
    """Attach a document to its image, as tools expect it.

    Args:
        repository: The repository of the image.
        image: The image.
        content: The document.
        kind: Its media type.

    Returns:
        Digest of the manifest that refers to the image.
    """
    digest, empty = repository.write(content), repository.write(b"{}")
    nothing = {"mediaType": _EMPTY_TYPE, "size": 2, "digest": empty}
    artifact = Manifest.of(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "artifactType": kind,
            "config": nothing,
            "layers": [{"mediaType": kind, "size": len(content), "digest": digest}],
            "subject": image.describe(),
        }
    )
    repository.put(artifact)
    # For registries that do not know of `subject`: the tag that clients fall back to.
    tag = image.digest.replace(":", "-")
    index = repository.manifest(tag)
    others = [] if index is None else index.document["manifests"]
    entry = {**artifact.describe(), "artifactType": kind}
    if entry not in others:
        listing = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [*others, entry]}
        repository.put(Manifest.of(listing), tag)
    return artifact.digest
