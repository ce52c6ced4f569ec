"""The file by which DVC commands outside of flows reach the bucket of the local stack."""

from __future__ import annotations

from pathlib import Path

from deployments.catalogue.block_variables import DVC_FOLDER, ObjectStorage

NAME = "dvc.config"
_TEMPLATE = """\
# Written by `make up`, for `dvc get --config`: .dvc/config in Git knows neither where the local
# stack's bucket is nor how to read it.
[core]
    remote = read
['remote "read"']
    url = s3://{bucket}/{folder}
    endpointurl = {endpoint}
    region = {region}
    access_key_id = {key_id}
    secret_access_key = {secret}
"""


def write_dvc_config(home: Path, storage: ObjectStorage) -> None:
    """Write the file, which only its owner may read: it holds the credentials for reading."""
    draft = home / f".{NAME}.draft"
    draft.touch(mode=0o600)
    draft.write_text(
        _TEMPLATE.format(
            bucket=storage.bucket,
            folder=DVC_FOLDER,
            endpoint=storage.endpoint_url,
            region=storage.region,
            key_id=storage.read.key_id,
            secret=storage.read.secret,
        )
    )
    draft.replace(home / NAME)
