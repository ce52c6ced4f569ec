"""Access to a Kubernetes cluster: a kubeconfig from a block, or the one of the worker."""

from __future__ import annotations

import json
from dataclasses import dataclass

import yaml
from kubernetes import config
from kubernetes.client import ApiClient, Configuration

from tasks.core.errors import ConfigurationError
from tasks.core.secret_blocks import renewal
from tasks.runs.secrets import read_secret


@dataclass(frozen=True)
class Access:
    """The source of the kubeconfig, and its context.

    Attributes:
        block: Name of a Secret block that holds a kubeconfig; empty for the usual one.
        context: Its context; empty for the current one.
    """

    block: str
    context: str

    @property
    def source(self) -> str:
        """The source of the credentials, for people."""
        return f"block secret/{self.block}" if self.block else "the worker's kubeconfig"

    @property
    def renewal(self) -> str:
        """The step that installs other credentials."""
        return renewal(self.block) if self.block else "put it where the worker's is"

    async def read(self) -> str | None:
        """Read the kubeconfig from its block; None for the usual one."""
        if not self.block:
            return None
        content = await read_secret(self.block)
        return content if isinstance(content, str) else json.dumps(content)


def make_client(access: Access, kubeconfig: str | None) -> ApiClient:
    """Make a client with the address and the credentials of a kubeconfig.

    Args:
        access: Source of the kubeconfig, for people.
        kubeconfig: What the block holds; None for what `kubectl` would use, or where there is no
            such file, the cluster that we are in.

    Returns:
        The official client, which has not sent a request yet.

    Raises:
        ConfigurationError: There is no kubeconfig, or it makes no sense.
    """
    # Without retries of its own: the steps of a deploy are repeated as a whole.
    settings = Configuration(retries=False)
    context = access.context or None
    try:
        if kubeconfig is not None:
            document = yaml.safe_load(kubeconfig)
            if not isinstance(document, dict):
                raise config.ConfigException("it is no kubeconfig")
            config.load_kube_config_from_dict(
                document, context=context, client_configuration=settings, persist_config=False
            )
        else:
            _load_usual(context, settings)
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError) as error:
        # YAML's errors quote the text, which may be secret.
        why = type(error).__name__ if isinstance(error, yaml.YAMLError) else str(error)
        raise ConfigurationError(
            f"no cluster can be reached with {access.source}: {why}",
            state="nothing was changed",
            next_step="set `kubeconfig_block` and `context` in the environment's file, or"
            " KUBECONFIG for the worker",
        ) from None
    return ApiClient(settings)


def _load_usual(context: str | None, settings: Configuration) -> None:
    try:
        config.load_kube_config(context=context, client_configuration=settings)
    except config.ConfigException as outside:
        try:
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException:
            raise outside from None
