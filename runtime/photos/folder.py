"""The photos of a folder."""

import os
from collections.abc import Iterable
from pathlib import Path

from fusioncam.errors import UsageError

SUFFIXES = {
    *(".bmp", ".dib", ".gif", ".jpe", ".jpeg", ".jpg", ".png", ".webp", ".tif", ".tiff", ".avif", ".jp2"),
    *(".pbm", ".pgm", ".pnm", ".ppm", ".ras", ".sr", ".hdr", ".pic", ".exr"),
}
# A photo without a suffix is known by its first bytes.
_HEADS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def files_in(folder: Path, advice: str, recursive: bool = False) -> list[Path]:
    """Return the files of a folder, sorted by their paths in it, without hidden files and those in hidden folders.

    Args:
        folder: The folder.
        advice: The remedy in the error where the folder cannot be read.
        recursive: Whether to go through subfolders; a link to a folder is not followed.

    Raises:
        UsageError: There is no such folder, or it cannot be read.
    """

    def refuse(error: OSError | ValueError) -> None:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{folder} cannot be read ({reason}); {advice}") from error

    files: list[Path] = []
    try:
        for root, folders, names in os.walk(folder, onerror=refuse):
            folders[:] = sorted(f for f in folders if recursive and not f.startswith("."))
            files += [Path(root, name) for name in names if not name.startswith(".")]
    except ValueError as error:
        refuse(error)
    return sorted((file for file in files if file.is_file()), key=lambda file: file.relative_to(folder).as_posix())


def photos_of(folder: Path, recursive: bool = False, leave_out: Iterable[Path] = ()) -> dict[str, Path]:
    """Return the photos of a folder, damaged ones included: an error is raised where they are read.

    Args:
        folder: The folder.
        recursive: Whether to go through subfolders.
        leave_out: Files that only look like photos, such as masks, and folders to skip, such as that of the results.

    Returns:
        The files by their paths within the folder with `/` between the parts, sorted.

    Raises:
        UsageError: There is no such folder, or no photo in it.
    """
    out = {Path(os.path.realpath(path)) for path in leave_out}
    photos: dict[str, Path] = {}
    for file in files_in(folder, "give a folder of photos", recursive):
        real = Path(os.path.realpath(file))
        if not out & {real, *real.parents} and (file.suffix.lower() in SUFFIXES or _begins_like_a_photo(file)):
            photos[file.relative_to(folder).as_posix()] = file
    if not photos:
        deeper = "" if recursive else " (its subfolders were not searched)"
        raise UsageError(f"{folder} holds no photo{deeper}; give a folder with pictures, such as .jpg or .png")
    return photos


def _begins_like_a_photo(file: Path) -> bool:
    if file.suffix:
        return False
    try:
        with file.open("rb") as opened:
            return opened.read(8).startswith(_HEADS)
    except OSError:
        return False
