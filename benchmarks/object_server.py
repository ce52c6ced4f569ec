"""The S3 server of the local stack, alone."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from deployments.local import object_store
from deployments.local.credentials import Credentials
from deployments.local.ports import choose
from tasks.bucket.bucket import CONNECTIONS, Bucket

START_SECONDS = 60


@dataclass(frozen=True)
class Store:
    """An S3 server."""

    url: str
    client: Any
    credentials: Credentials

    def bucket(self, prefix: str) -> Bucket:
        """Return a folder of its bucket."""
        return Bucket("read-write", "none", object_store.BUCKET, prefix, {}, self.client)


@contextlib.contextmanager
def serve_store(folder: Path) -> Iterator[Store]:
    """Run the S3 server of the local stack until the end of the block."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    credentials = Credentials()
    free: dict[str, tuple[int, ...]] = dict.fromkeys(object_store.PORTS, ())
    ports = choose(free, keep={}, companions=object_store.COMPANIONS)
    object_store.prepare(folder, credentials)
    program = object_store.program(Path(sys.executable).parent, folder, ports)
    url = f"http://127.0.0.1:{ports[object_store.S3_PORT]}"
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=credentials.read_write.key_id,
        aws_secret_access_key=credentials.read_write.secret,
        config=Config(max_pool_connections=CONNECTIONS, proxies={}),
    )
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            program.argv,
            cwd=folder,
            env={**os.environ, **program.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(str(program.health), trust_env=False)
                client.put_object(Bucket=object_store.BUCKET, Key="ready", Body=b"")
                break
            except (httpx.HTTPError, BotoCoreError, ClientError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
        yield Store(url, client, credentials)
    finally:
        server.terminate()
        server.wait()
