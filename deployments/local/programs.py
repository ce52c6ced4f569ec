"""The programs of one stack, in the order they start."""

from __future__ import annotations

from collections.abc import Collection

from deployments.local import (
    counters,
    gateway,
    image_registry,
    object_store,
    ports,
    postgres,
    prefect_programs,
    shipper,
)
from deployments.local.credentials import Credentials
from deployments.local.layout import Layout
from deployments.local.program import Program
from deployments.local.supervisor import SUPERVISOR_PORT
from deployments.local.worker_environment import program_folder, worker_environment

_USUAL_PORTS = {
    prefect_programs.SERVER_PORT: 4200,
    object_store.S3_PORT: 8333,
    image_registry.PORT: 5000,
}


def stack_programs(layout: Layout, credentials: Credentials) -> tuple[Program, ...]:
    """Describe the programs of a stack that has ports.

    Args:
        layout: The stack; with a port for every name of `port_names`.
        credentials: Its secrets.

    Returns:
        The programs; one that starts later may need those before it.
    """
    folder, checkout = program_folder(), layout.checkout
    registry = (
        (image_registry.program(image_registry.find_program(), layout.images, layout.ports),)
        if layout.has_image_registry
        else ()
    )
    return (
        postgres.program(checkout, layout.database, layout.ports, credentials.database),
        *registry,
        object_store.program(folder, layout.objects, layout.ports),
        prefect_programs.server(
            checkout,
            layout.prefect_home,
            layout.ports,
            database_url=postgres.connection_url(layout.ports, credentials.database),
            login=credentials.prefect,
        ),
        gateway.program(folder, layout.routes, layout.ports, layout.host_environments),
        *_counters(layout),
        *_shipper(layout, credentials),
        prefect_programs.worker(checkout, worker_environment(layout, credentials)),
    )


def _counters(layout: Layout) -> tuple[Program, ...]:
    if not layout.has_watch:
        return ()
    return (counters.program(layout.checkout, layout.counters, layout.ports),)


def _shipper(layout: Layout, credentials: Credentials) -> tuple[Program, ...]:
    if not layout.has_log:
        return ()
    return (
        shipper.program(
            layout.checkout, layout.spool, layout.gauges, layout.ports, credentials.put
        ),
    )


def program_names(layout: Layout) -> list[str]:
    """Return the names of the programs of a stack, whether or not it has been up."""
    return [
        postgres.NAME,
        *([image_registry.NAME] if layout.has_image_registry else []),
        object_store.NAME,
        prefect_programs.SERVER,
        gateway.NAME,
        *([counters.NAME] if layout.has_watch else []),
        *([shipper.NAME] if layout.has_log else []),
        prefect_programs.WORKER,
    ]


def port_names(layout: Layout) -> list[str]:
    """Return the names of the ports that the stack needs, those of environments included."""
    return [
        SUPERVISOR_PORT,
        postgres.PORT,
        *([image_registry.PORT] if layout.has_image_registry else []),
        prefect_programs.SERVER_PORT,
        *object_store.PORTS,
        gateway.API_PORT,
        *layout.host_settings(),
    ]


def ports_of(program: str, layout: Layout) -> set[str]:
    """Return the names of the ports that a program of the stack listens on."""
    names = {
        postgres.NAME: (postgres.PORT,),
        image_registry.NAME: (image_registry.PORT,),
        object_store.NAME: object_store.PORTS,
        prefect_programs.SERVER: (prefect_programs.SERVER_PORT,),
        gateway.NAME: (gateway.API_PORT, *layout.host_environments),
    }
    return set(names.get(program, ()))


def choose_ports(layout: Layout, *, in_use: Collection[str], usual: bool) -> dict[str, int]:
    """Choose a port for every name that the stack needs.

    Args:
        layout: The stack; its ports of the last start are taken again where they are free.
        in_use: Names of the ports that its own running programs listen on: they stay.
        usual: Whether to try well-known ports, so that URLs are easy to remember.

    Returns:
        One port by name.
    """
    names = port_names(layout)
    settings = layout.host_settings()
    well_known = _USUAL_PORTS | {name: environment.port for name, environment in settings.items()}
    preferred = {
        name: [
            port
            for port in (layout.ports.get(name), well_known.get(name) if usual else None)
            if port
        ]
        for name in names
    }
    keep = {name: port for name, port in layout.ports.items() if name in names and name in in_use}
    return ports.choose(
        preferred, keep=keep, companions=object_store.COMPANIONS, owner=str(layout.home)
    )
