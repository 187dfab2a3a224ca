"""The layout of a model on disk: one bundle, or a folder of numbered versions, each a bundle."""

import re
from pathlib import Path

from fusioncam.errors import BundleError
from fusioncam.manifest import MANIFEST
from fusioncam.runtime.service.served_model import ONLY

_NUMBER = re.compile("[1-9][0-9]{0,17}")


def bundles_by_version(path: Path) -> dict[str, Path]:
    """Return the bundles of a model by version, the newest last.

    Args:
        path: A bundle, which is version 1; or a folder with one bundle per version, as 1/, 2/, 3/. Whatever else lies
            in that folder is left alone.

    Raises:
        BundleError: The path is neither.
    """
    if not (path / MANIFEST).exists() and path.is_dir():
        try:
            numbers = [entry.name for entry in path.iterdir() if _NUMBER.fullmatch(entry.name) and entry.is_dir()]
        except OSError as error:
            raise BundleError(f"{path} cannot be read ({error.strerror}); give the service the right to") from error
        if numbers:
            return {number: path / number for number in sorted(numbers, key=int)}
        raise BundleError(
            f"{path} is no bundle: it holds no {MANIFEST}, nor bundles in folders named 1, 2, ...; make one with "
            "`fusioncam export`"
        )
    return {ONLY: path}
