"""Images: a saved model as a container image, built and pushed without a container engine.

An image is a few compressed archives and two JSON documents that list them. This package writes
them itself, so that the same inputs give the same bytes on any worker, and sends a registry only
the ones that it does not have.
"""
