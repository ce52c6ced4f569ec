"""Bill of materials: the parts of an image, as CycloneDX, attached to it in the registry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from tasks.images.base import Base
from tasks.images.packages import Distribution
from tasks.images.registry import Manifest, Repository
from tasks.package.package import Package

TYPE = "application/vnd.cyclonedx+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


def bill_of_materials(
    package: Package,
    image: Manifest,
    base: Base,
    distributions: Sequence[Distribution],
    made: datetime,
) -> bytes:
    """List the parts of an image: base, packages and model.

    Args:
        package: The model in it.
        image: The image.
        base: Its base image.
        distributions: The packages in it.
        made: Time of the commit.

    Returns:
        CycloneDX 1.6 as JSON, the same bytes for the same image.
    """
    licenses = LicenseFactory()
    model = Component(
        name=package.model,
        version=package.commit,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref="model",
        hashes=[
            HashType(alg=HashAlgorithm.MD5, content=package.md5),
            HashType(alg=HashAlgorithm.SHA_256, content=package.sha256),
        ],
    )
    base_image = Component(
        name=base.reference.name,
        version=base.reference.digest,
        type=ComponentType.CONTAINER,
        bom_ref="base",
    )
    packages = [
        Component(
            name=entry.name,
            version=entry.version,
            type=ComponentType.LIBRARY,
            bom_ref=f"pypi:{entry.name}",
            purl=PackageURL("pypi", name=entry.name.lower(), version=entry.version),
            licenses=[licenses.make_from_string(entry.license)] if entry.license else [],
        )
        for entry in distributions
    ]
    whole = Component(
        name=package.label, version=image.digest, type=ComponentType.CONTAINER, bom_ref="image"
    )
    parts = [base_image, model, *packages]
    bill = Bom(
        components=parts,
        serial_number=uuid5(NAMESPACE_URL, image.digest),
        metadata=BomMetaData(timestamp=made, component=whole),
    )
    bill.register_dependency(whole, parts)
    text: str = JsonV1Dot6(bill).output_as_string(indent=2)
    return text.encode()


def attach(repository: Repository, image: Manifest, bill: bytes) -> str:
    """Attach a bill of materials to its image, as tools expect it.

    Returns:
        Digest of the manifest that refers to the image.
    """
    digest, empty = repository.write(bill), repository.write(b"{}")
    nothing = {"mediaType": _EMPTY_TYPE, "size": 2, "digest": empty}
    artifact = Manifest.of(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "artifactType": TYPE,
            "config": nothing,
            "layers": [{"mediaType": TYPE, "size": len(bill), "digest": digest}],
            "subject": image.describe(),
        }
    )
    repository.put(artifact)
    # For registries that do not know of `subject`: the tag that clients fall back to.
    tag = image.digest.replace(":", "-")
    index = repository.manifest(tag)
    others = [] if index is None else index.document["manifests"]
    entry = {**artifact.describe(), "artifactType": TYPE}
    if entry not in others:
        listing = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [*others, entry]}
        repository.put(Manifest.of(listing), tag)
    return artifact.digest
