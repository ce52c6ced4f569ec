"""Bill of materials: the parts of an image, as CycloneDX."""

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
from tasks.images.registry import Manifest
from tasks.package.package import Package

TYPE = "application/vnd.cyclonedx+json"


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
