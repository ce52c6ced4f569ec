"""The worker's own host: its proxy, its process runner, its container engine."""
