"""The blocks of prefect-aws, without its worker for ECS.

The package imports that worker whenever any module of it is imported: with its asynchronous clients
that takes as long as all the rest, in each flow run and each `slipway apply`. Workers start by
Prefect's own command, in a process that does not import this.
"""

from __future__ import annotations

from tasks.bucket.stores.base.blocks import import_without

import_without("prefect_aws", "prefect_aws.workers")

from prefect_aws import AwsCredentials, S3Bucket  # noqa: E402
from prefect_aws.client_parameters import AwsClientParameters  # noqa: E402

__all__ = ["AwsClientParameters", "AwsCredentials", "S3Bucket"]
