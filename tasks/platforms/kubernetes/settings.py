"""Environments of the target `kubernetes`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.platforms.base.settings import CloudEnvironment

# Quantities, as Kubernetes writes them.
_CPU = r"^\d+(\.\d{1,3}|m)?$"
_MEMORY = r"^\d+(k|M|G|Ki|Mi|Gi)?$"


class Autoscale(BaseModel):
    """The range in which a cluster chooses the number of replicas.

    Attributes:
        min: At least.
        max: At most.
        cpu: Target load of the pods, in percent of the processors that they request.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: int = Field(ge=1)
    max: int = Field(ge=1)
    cpu: int = Field(80, ge=1)


class KubernetesEnvironment(CloudEnvironment):
    """An environment whose target is a Kubernetes cluster.

    Attributes:
        name: File name without `.toml`; objects in the cluster are named after it.
        url: The public URL of the live model.
        kubeconfig_block: Name of a Secret block that holds a kubeconfig; empty for the one that
            `kubectl` uses, or in a cluster for that cluster.
        context: Context of the kubeconfig; empty for its current one.
        namespace: Namespace of all objects.
        create_namespace: Create the namespace if it is missing; it is never deleted.
        replicas: Number of pods.
        autoscale: Lets the cluster choose how many, instead of `replicas`.
        cpu: Processors that a pod is given.
        cpu_limit: Processors that it may use.
        memory: Memory that a pod is given.
        memory_limit: Memory that it may use.
        pull_secret: Name of a secret in the namespace with which nodes pull the image.
        service_type: Type of the service.
        node_port: Its port on the nodes; 0 lets the cluster choose.
        ingress_host: Host name of an Ingress; empty for none.
        ingress_class: Its class; empty for the cluster's default.
        ingress_tls: Name of a secret in the namespace with the certificate of that host.
        schedule_seconds: Longest time that a pod may wait for a node and for its image.
        steady_seconds: Time that a pod must be ready before the next old one is replaced.
        drain_seconds: Time that an old pod goes on serving after it has left the traffic.
    """

    target: Literal["kubernetes"]
    # Names may have 63 characters, and ours add a prefix and a suffix to this.
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$")
    url: str = Field(pattern=r"^https?://\S+[^/\s]$")
    kubeconfig_block: str = ""
    context: str = ""
    namespace: str = "default"
    create_namespace: bool = False
    replicas: int = Field(2, ge=1)
    autoscale: Autoscale | None = None
    cpu: str = Field("250m", pattern=_CPU)
    cpu_limit: str = Field("1", pattern=_CPU)
    memory: str = Field("512Mi", pattern=_MEMORY)
    memory_limit: str = Field("1Gi", pattern=_MEMORY)
    pull_secret: str = ""
    service_type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    node_port: int = Field(0, ge=0, le=65535)
    ingress_host: str = ""
    ingress_class: str = ""
    ingress_tls: str = ""
    schedule_seconds: int = Field(120, ge=1)
    steady_seconds: int = Field(5, ge=0)
    drain_seconds: int = Field(5, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.node_port and self.service_type == "ClusterIP":
            raise ValueError('node_port needs service_type = "NodePort" or "LoadBalancer"')
        if (self.ingress_class or self.ingress_tls) and not self.ingress_host:
            raise ValueError("ingress_class and ingress_tls need ingress_host")
        if self.autoscale and self.autoscale.min > self.autoscale.max:
            raise ValueError("autoscale.min is more than autoscale.max")
        return self
