"""Settings of a host, from `SLIPWAY_*` environment variables."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# The tag of everything that Slipway makes on a Prefect server, and may therefore change.
TAG = "slipway"
# Of each kind of store the slug of its blocks' type.
BLOCK_TYPES = {"s3": "s3-bucket", "azure": "azure-blob-storage-container"}
CHECKOUT = Path(__file__).resolve().parents[2]


class Settings(BaseSettings):
    """Settings of the host that a flow runs on.

    Attributes:
        home: Folder for all files that flows write: caches, workspaces, releases. None of it is
            state that Git, S3, Prefect or the platform do not have as well.
        origin: Git URL or path that flows clone from and push to.
        forge: Kind of the site that hosts origin, for links to its pages and for `doctor`; empty to
            tell it by the host's name.
        store: Kind of the bucket, `s3` or `azure`: the scheme of its URLs, and with it the type of
            its blocks.
        read_write_block: Name of the block of the bucket used to push.
        training_seconds: Time limit for all stages of a pipeline together.
        refresh_seconds: Time limit for refreshing the data from their source.
        sources: Addresses that data may be refreshed from, and what is below them, separated by
            commas.
        cache_days: Age in days from which caches of this host that nothing names are removed; 0 for
            never.
        candidate_days: Age in days from which branches of candidates are removed; 0 for never.
        read_block: Name of the block of the bucket used to pull when deploying; may be read-only.
        signing_key_file: File of the key that signs commits, tags and models; without one the
            Secret block `slipway-signing-key` has it.
        trust: Folder of `allowed_signers`, the keys whose signatures count. It belongs to the
            deploying side; what a commit has at that path counts for nothing.
        sandbox: Whether code of a ref must run in a sandbox (`required`), runs without where there
            is none (`auto`), or the worker itself is in a container without secrets (`container`).
        sandbox_memory_gb: Memory of one box; three quarters of the host's by default.
        sandbox_processes: Number of processes of one box.
        sandbox_free_disk_gb: Space on the disk that a box has to leave free.
        stage_network: Whether stages of a pipeline reach the network.
        stage_variables: Names of variables of the worker that stages get, separated by commas.
        score_places: Folders, `s3://` (`azure://`) and `sql://` addresses that `score` may read and
            write, and what is below them, separated by commas; paths are relative to the checkout.
    """

    model_config = SettingsConfigDict(env_prefix="SLIPWAY_", extra="ignore")

    home: Path = CHECKOUT / ".slipway"
    origin: str = str(CHECKOUT)
    forge: Literal["", "github", "gitlab"] = ""
    training_seconds: float = 4 * 3600.0
    refresh_seconds: float = Field(default=1800.0, gt=0)
    sources: str = ""
    cache_days: float = Field(default=30.0, ge=0)
    candidate_days: float = Field(default=90.0, ge=0)
    store: str = "s3"
    read_write_block: str = "slipway-read-write"
    read_block: str = "slipway-read"
    sandbox: Literal["auto", "required", "container"] = "auto"
    sandbox_memory_gb: float = Field(default_factory=lambda: _memory_gb() * 0.75, gt=0)
    sandbox_processes: int = Field(default=1000, gt=0)
    sandbox_free_disk_gb: float = Field(default=1.0, ge=0)
    stage_network: bool = False
    stage_variables: str = ""
    score_places: str = "data/scores"
    signing_key_file: Path | None = None
    trust: Path = CHECKOUT / "deployments" / "trust"

    @property
    def allowed_signers(self) -> Path:
        """The keys whose signatures count, in the format of OpenSSH and Git."""
        return self.trust / "allowed_signers"

    @cached_property
    def workspaces(self) -> Path:
        """Folder of private clones, one per flow run."""
        return self.home / "workspaces"

    @cached_property
    def dvc_cache(self) -> Path:
        """The DVC cache that all workspaces of this host share."""
        return self.home / "dvc-cache"

    @cached_property
    def up_to_date(self) -> Path:
        """Notes on commits at which DVC would run no stage, named by their hash."""
        return self.home / "up-to-date"

    @cached_property
    def environments(self) -> Path:
        """Python environments, named by the hash of what is installed in them."""
        return self.home / "environments"

    @cached_property
    def layers(self) -> Path:
        """Layers of images, named by the hash of what they are made from."""
        return self.home / "layers"

    @cached_property
    def bundles(self) -> Path:
        """Releases of the `process` target: one folder per environment and release."""
        return self.home / "bundles"

    @cached_property
    def counters(self) -> Path:
        """Samples of the proxy's counters, over the last two hours."""
        return self.home / "counters"

    @cached_property
    def spool(self) -> Path:
        """Records of the prediction logs that wait for the bucket."""
        return self.home / "spool"

    @cached_property
    def scores(self) -> Path:
        """Jobs of `score` that are not published yet."""
        return self.home / "scores"

    @cached_property
    def gauges(self) -> Path:
        """Gauges of `monitor`, for the node exporter's textfile collector."""
        return self.home / "gauges"

    @cached_property
    def locks(self) -> Path:
        """Lock files; the kernel releases the locks of a process that dies."""
        return self.home / "locks"


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
