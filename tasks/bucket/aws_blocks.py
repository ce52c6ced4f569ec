"""The blocks of prefect-aws, without its worker for ECS.

The package imports that worker whenever any module of it is imported: with its asynchronous clients
that takes as long as all the rest, in each flow run and each `slipway apply`. Workers start by
Prefect's own command, in a process that does not import this.
"""

from __future__ import annotations

import sys
from types import ModuleType

_WORKERS = "prefect_aws.workers"

if "prefect_aws" in sys.modules:
    from prefect_aws import AwsCredentials, S3Bucket
    from prefect_aws.client_parameters import AwsClientParameters
else:
    _placeholder = ModuleType(_WORKERS)
    _placeholder.__getattr__ = lambda _: None  # type: ignore[method-assign]
    sys.modules[_WORKERS] = _placeholder
    try:
        from prefect_aws import AwsCredentials, S3Bucket
        from prefect_aws.client_parameters import AwsClientParameters
    finally:
        del sys.modules[_WORKERS]  # whoever does import the workers gets them

__all__ = ["AwsClientParameters", "AwsCredentials", "S3Bucket"]
