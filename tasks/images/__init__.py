"""Images: a saved model as a container image, built and pushed without any container engine.

An image is a few compressed archives and two JSON documents that say in which order they lie on
each other. They are written here, so that the same inputs give the same bytes, on any worker, and
only what a registry does not have yet is sent to it.
"""
