"""Bundles of other sizes, derived from bundles of any size, and kept: the one place where a run makes the export work.

The folder is `sizes` in the user's cache folder, or in the one that FUSIONCAM_CACHE names; it may always be deleted.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

import fusioncam
from fusioncam.errors import BundleError, LibraryError, OutputError, first_line
from fusioncam.files import CACHE, cache_root
from fusioncam.free_size import Size, sides
from fusioncam.libraries import load
from fusioncam.manifest import MANIFEST, WEIGHTS, Manifest, read_bundle

MOST_FOLDERS = 32  # sizes of all bundles together; those that were not used for longest go
LOCK = "lock"

Derive = Callable[..., Manifest]


def sized_bundle(bundle: Path, manifest: Manifest, size: Size) -> tuple[Path, Manifest]:
    """Return the bundle of another size, and its manifest; derive it where no process has done so before.

    Args:
        bundle: The folder of a bundle of any size.
        manifest: Its manifest.
        size: (H, W) of the input.

    Raises:
        LibraryError: A library of the export is missing.
        ModelError, UsageError: The model cannot be explained at this size.
        OutputError: The cache cannot be written.
    """
    folder = _folder(manifest) / "x".join(map(str, size))
    try:
        found = _kept(folder)
        if found is None:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.parent / LOCK):  # another process may derive the same
                found = _kept(folder, remove=True) or _derived(bundle, manifest, size, folder)
            _drop_oldest(folder)
        os.utime(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: no such home
        raise _unwritable(folder, first_line(error)) from error
    return folder, found


def _folder(manifest: Manifest) -> Path:
    """Return the folder for the sizes of one bundle, by this version of fusioncam."""
    facts = "\n".join([fusioncam.__version__, manifest.model_dump_json(exclude={"tools"})])
    return cache_root().expanduser() / "sizes" / hashlib.sha256(facts.encode()).hexdigest()[:32]


def _kept(folder: Path, remove: bool = False) -> Manifest | None:
    """Return the manifest of a bundle that is kept whole; None, and perhaps remove what is there, for any other."""
    try:
        return read_bundle(folder)
    except BundleError:
        if remove:
            shutil.rmtree(folder, ignore_errors=True)
        return None


def _derived(bundle: Path, manifest: Manifest, size: Size, folder: Path) -> Manifest:
    """Derive the bundle of a size; its weights become a link to those of another size where there is one."""
    try:
        derive: Derive = load("fusioncam.export.derivation", "derive_bundle")
    except LibraryError as error:
        raise LibraryError(
            f"a size of {sides(size)} needs the export, which derives its graphs: {error}; "
            f"or export the model with --size {' '.join(map(str, size))} elsewhere, and copy the bundle here"
        ) from error
    twin = next((other / WEIGHTS for other in folder.parent.iterdir() if (other / WEIGHTS).is_file()), None)
    try:
        return derive(bundle, manifest, size, folder, twin)
    except OutputError as error:
        raise _unwritable(folder, str(error)) from error


def _drop_oldest(folder: Path) -> None:
    """Remove the folders that were not used for longest, of more than `MOST_FOLDERS`."""
    with suppress(OSError):  # another process does the same
        kept = sorted(folder.parents[1].glob(f"*/[0-9]*/{MANIFEST}"), key=lambda path: path.parent.stat().st_mtime)
        for path in kept[:-MOST_FOLDERS]:
            shutil.rmtree(path.parent, ignore_errors=True)


def _unwritable(folder: Path, why: str) -> OutputError:
    return OutputError(
        f"cannot keep the graphs of another size in {folder} ({why}); set the environment variable {CACHE} to a folder "
        "that can be written"
    )
