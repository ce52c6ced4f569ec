"""The web service in which a deployed model runs. It imports nothing of the orchestrator."""
