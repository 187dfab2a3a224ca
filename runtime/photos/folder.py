"""The photos of a folder."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import NamedTuple, NoReturn

from fusioncam.errors import UsageError
from fusioncam.runtime.photos.formats.nifti import SUFFIXES as VOLUMES
from fusioncam.runtime.photos.formats.npy import SUFFIXES as ARRAYS

SUFFIXES = {
    *(".bmp", ".dib", ".gif", ".jpe", ".jpeg", ".jpg", ".png", ".webp", ".tif", ".tiff", ".avif", ".jp2"),
    *(".pbm", ".pgm", ".pnm", ".ppm", ".ras", ".sr", ".hdr", ".pic", ".exr"),
}
# A photo without a suffix is known by its first bytes.
_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
HEAD = 8  # bytes
ADVICE = "give a folder with pictures, such as .jpg or .png"


class Entry(NamedTuple):
    """A file or folder in a folder: its name there, whether it is a folder to go into, and where it lies."""

    name: str
    is_folder: bool
    place: str


@dataclass
class Walk:
    """A way through the files of a folder, sorted by their paths in it; a folder is read when the way comes to it.

    Hidden files, and those in hidden folders, are left out.

    Attributes:
        entries: Returns what is in a folder.
        recursive: Whether to go through subfolders.
        arrays: Whether arrays count as photos: files that end in .npy, .npz, .nii or .nii.gz.
        failed: Called with a folder that cannot be read and the error, in place of raising it; the way goes on.
        skipped: Number of files so far that were left out, hidden ones and others.
        unsearched: Number of subfolders so far that were passed over, hidden ones aside.
    """

    entries: Callable[[str], Iterable[Entry]]
    recursive: bool = False
    arrays: bool = False
    failed: Callable[[str, Exception], None] | None = None
    skipped: int = field(default=0, init=False)
    unsearched: int = field(default=0, init=False)

    def files(self, folder: str, inside: str = "") -> Iterator[tuple[str, str]]:
        """Yield the files below a folder: their paths within the first one, `/` between the parts, and their places.

        Args:
            folder: The folder.
            inside: Its own path within the first one, with a `/` behind.
        """
        try:
            # With a / behind folders, names are in the order of the whole paths.
            found = sorted(self.entries(folder), key=lambda e: f"{e.name}/" if e.is_folder else e.name)
        except Exception as error:
            if self.failed is None:
                raise
            self.failed(folder, error)
            return
        for name, is_folder, place in found:
            if name.startswith("."):
                self.skipped += not is_folder
            elif not is_folder:
                yield inside + name, place
            elif self.recursive:
                yield from self.files(place, f"{inside}{name}/")
            else:
                self.unsearched += 1

    def photos(self, folder: str, first_bytes: Callable[[str], bytes]) -> Iterator[tuple[str, str]]:
        """Yield the files that are photos by their names, or by their first bytes where a name has no suffix."""
        for path, place in self.files(folder):
            if is_photo(path, partial(first_bytes, place), self.arrays):
                yield path, place
            else:
                self.skipped += 1


def stem_of_file(path: str) -> str:
    """Return the name of a file without its ending, which is `.nii.gz` of a packed NIfTI."""
    stem = PurePath(path).stem
    return PurePath(stem).stem if path.lower().endswith(".nii.gz") else stem


def is_photo(path: str, first_bytes: Callable[[], bytes], arrays: bool = False) -> bool:
    """Return whether a file is a photo, or an array, by its name; without a suffix, by its first bytes."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122  (names of other systems, too)
    is_array = arrays and (suffix in ARRAYS or path.lower().endswith(VOLUMES))
    return suffix in SUFFIXES or is_array or (not suffix and first_bytes().startswith(_HEADS))


def local_entries(folder: str) -> Iterator[Entry]:
    """Yield the files of a folder on this machine and its subfolders; a link to a folder, or to nothing, is neither.

    Raises:
        OSError: The folder cannot be read.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if is_folder or _is_file(entry):
                yield Entry(entry.name, is_folder, entry.path)


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link in a circle, or to where nobody may look: the error is that of the file, when it is read
        return True


def local_head(place: str) -> bytes:
    """Return the first bytes of a file; none where it cannot be read."""
    try:
        with open(place, "rb") as opened:  # noqa: PTH123  (not a Path)
            return opened.read(HEAD)
    except OSError:
        return b""


def files_in(folder: Path, advice: str, recursive: bool = False) -> list[Path]:
    """Return the files of a folder, sorted by their paths in it, without hidden files and those in hidden folders.

    Args:
        folder: The folder.
        advice: The remedy in the error where the folder cannot be read.
        recursive: Whether to go through subfolders; a link to a folder is not followed.

    Raises:
        UsageError: There is no such folder, or it cannot be read.
    """
    try:
        return [Path(place) for _, place in Walk(local_entries, recursive).files(os.fspath(folder))]
    except (OSError, ValueError) as error:
        _refuse(folder, error, advice)


def _refuse(folder: Path, error: OSError | ValueError, advice: str) -> NoReturn:
    reason = getattr(error, "strerror", None) or error
    raise UsageError(f"{folder} cannot be read ({reason}); {advice}") from error


def photos_of(
    folder: Path, recursive: bool = False, leave_out: Iterable[Path] = (), arrays: bool = False
) -> dict[str, Path]:
    """Return the photos of a folder, damaged ones included: an error is raised where they are read.

    Args:
        folder: The folder.
        recursive: Whether to go through subfolders.
        leave_out: Files that only look like photos, such as masks, and folders to skip, such as that of the results.
        arrays: Whether arrays count as photos.

    Returns:
        The files by their paths within the folder with `/` between the parts, sorted.

    Raises:
        UsageError: There is no such folder, or no photo in it.
    """
    out = {Path(os.path.realpath(path)) for path in leave_out}
    try:
        found = Walk(local_entries, recursive, arrays).photos(os.fspath(folder), local_head)
        photos = {path: Path(place) for path, place in found if not is_below(place, out)}
    except (OSError, ValueError) as error:
        _refuse(folder, error, "give a folder of photos")
    if not photos:
        raise UsageError(no_photo(folder, recursive))
    return photos


def is_below(place: str, folders: Collection[Path]) -> bool:
    """Return whether a file is one of some files, or lies below one of some folders; these without links."""
    if not folders:
        return False
    real = Path(os.path.realpath(place))
    return not {real, *real.parents}.isdisjoint(folders)


def no_photo(folder: object, recursive: bool, remedy: str = "") -> str:
    """Return the error for a folder without photos; `remedy` says how subfolders are searched."""
    deeper = "" if recursive else f" (its subfolders were not searched{remedy})"
    return f"{folder} holds no photo{deeper}; {ADVICE}"


def results_among(folder: Path, out: Path) -> list[Path]:
    """Return the folder of results if it lies among the photos of a folder.

    Raises:
        UsageError: It is the folder of the photos.
    """
    photos, results = (Path(os.path.realpath(path)) for path in (folder, out))
    if results == photos:
        raise UsageError(f"{out} is the folder of the photos; choose another for the results with -o")
    return [out] if photos in results.parents else []
