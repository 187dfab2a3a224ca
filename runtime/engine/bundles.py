"""Bundles that were read: their folders and manifests."""

from pathlib import Path
from typing import NamedTuple

from fusioncam.manifest import Manifest, read_bundle
from fusioncam.runtime.arguments import Bundles, listed_bundles, of_one_model


class BundleFolder(NamedTuple):
    """A bundle that was read.

    Attributes:
        folder: The folder.
        manifest: Its manifest.
    """

    folder: Path
    manifest: Manifest


def read_bundles(bundles: Bundles) -> list[BundleFolder]:
    """Read one bundle, or several of one model.

    Raises:
        BundleError: A folder is no bundle, or a file of it is missing or was changed.
        UsageError: There is none, or the bundles are not of one model.
    """
    read = [BundleFolder(Path(b), read_bundle(Path(b))) for b in listed_bundles(bundles)]
    of_one_model([b.manifest for b in read])
    return read
