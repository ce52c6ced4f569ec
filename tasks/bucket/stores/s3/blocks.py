"""The blocks of prefect-aws, without its worker for ECS.

The package imports that worker whenever any module of it is imported: with its asynchronous clients
that takes as long as all the rest, in each flow run and each `slipway apply`. Workers start by
Prefect's own command, in a process that does not import this.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

_WORKERS = "prefect_aws.workers"

if "prefect_aws" not in sys.modules:
    _placeholder = ModuleType(_WORKERS)
    _placeholder.__getattr__ = lambda _: None  # type: ignore[method-assign]
    sys.modules[_WORKERS] = _placeholder
    try:
        import_module("prefect_aws")
    finally:
        del sys.modules[_WORKERS]  # whoever does import the workers gets them

from prefect_aws import AwsCredentials, S3Bucket  # noqa: E402
from prefect_aws.client_parameters import AwsClientParameters  # noqa: E402

__all__ = ["AwsClientParameters", "AwsCredentials", "S3Bucket"]
