"""The program that ships prediction logs from this host into the bucket: as data."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from deployments.catalogue.block_variables import S3Identity
from deployments.local.object_store import BUCKET, S3_PORT
from deployments.local.ports import HOST
from deployments.local.program import Program

NAME = "log-shipper"


def program(
    checkout: Path, folder: Path, gauges: Path, ports: Mapping[str, int], identity: S3Identity
) -> Program:
    """Describe the program.

    Args:
        checkout: Where this package is.
        folder: Folder of the records.
        gauges: Folder for the gauges of what waits.
        ports: Port of the S3 server, by name.
        identity: One that may only put records.
    """
    return Program(
        name=NAME,
        argv=(
            sys.executable,
            "-m",
            "tasks.bucket.shipper",
            f"--spool={folder}",
            f"--bucket={BUCKET}",
            f"--gauges={gauges}",
            f"--endpoint=http://{HOST}:{ports[S3_PORT]}",
        ),
        directory=checkout,
        environment={
            "AWS_ACCESS_KEY_ID": identity.key_id,
            "AWS_SECRET_ACCESS_KEY": identity.secret,
        },
        stop_seconds=5,
        priority=40,
    )
