"""Where and how things run: environments, blocks, the local stack."""
