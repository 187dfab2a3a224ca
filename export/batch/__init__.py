"""A free batch axis, and images that are kept apart in it; or a single picture, where its numbers decide on shapes."""

from fusioncam.export.batch.freeing import with_any_batch
from fusioncam.export.batch.single_picture import of_one_picture

__all__ = ["of_one_picture", "with_any_batch"]
