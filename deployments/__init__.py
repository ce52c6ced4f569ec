"""Entry points and the configuration of servers: environments, blocks, the local stack."""
