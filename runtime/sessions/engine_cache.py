"""Folders in which TensorRT keeps the engines of a bundle."""

import hashlib
from pathlib import Path
from tempfile import TemporaryFile

import onnxruntime

from fusioncam.errors import OutputError
from fusioncam.files import CACHE, cache_root
from fusioncam.manifest import Manifest


def bundle_digest(manifest: Manifest) -> str:
    """Return the hex digest of a whole bundle, so that no model gets the engine of another."""
    return hashlib.sha256("\n".join(sorted(manifest.files.values())).encode()).hexdigest()


def cache_folder(digest: str, variant: str = "") -> Path:
    """Return the folder for TensorRT's engines of one bundle; a missing folder is made.

    The folder is in the user's cache folder, or in the folder that the environment variable FUSIONCAM_CACHE names.
    Every version of onnxruntime has its own, because its build of TensorRT reads only its own engines.

    Args:
        digest: See `bundle_digest`. onnxruntime names an engine after file and tensor names, never after the weights.
        variant: Name of a subfolder for engines of another kind, such as the chunk.

    Raises:
        OutputError: The folder cannot be made or written to.
    """
    folder: Path = cache_root() / "tensorrt" / onnxruntime.__version__ / digest[:16] / variant
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError) as error:  # RuntimeError: no such home
        raise OutputError(
            f"cannot keep TensorRT's engines in {folder}: {getattr(error, 'strerror', error)}; "
            f"set the environment variable {CACHE} to a folder that can be written"
        ) from error
