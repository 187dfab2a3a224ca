"""A free batch axis, and images that are kept apart in it."""

from fusioncam.export.batch.freeing import with_any_batch

__all__ = ["with_any_batch"]
