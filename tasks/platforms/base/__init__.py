"""The parts that all platforms share: the protocol of a target, settings, proofs, REST calls.

It imports no platform.
"""
