"""A flow that does nothing: what a run costs that Prefect starts, whatever it is for."""

from prefect import flow


@flow(name="nothing")
async def nothing() -> None:
    """Do nothing."""
