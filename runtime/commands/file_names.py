"""Names of the files of an explanation: no file overwrites another, or a picture of the user's."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from fusioncam.errors import UsageError
from fusioncam.manifest import MANIFEST


def safe_name(method: str) -> str:
    """Return a method's name for use in a file's name: without `:` and `+`, which some file systems refuse."""
    return re.sub(r"[^A-Za-z0-9_.]", "-", method)


def file_stems(images: Sequence[Path], endings: Mapping[str, str]) -> dict[Path, str]:
    """Return a file stem for each picture; stems that would give two files the same name are numbered."""
    stems: dict[Path, str] = {}
    taken: set[str] = set()
    for image in dict.fromkeys(images):
        stem, n = image.stem, 2
        while taken & {_folded(stem + ending) for ending in endings.values()}:
            stem, n = f"{image.stem}_{n}", n + 1
        taken |= {_folded(stem + ending) for ending in endings.values()}
        stems[image] = stem
    return stems


def _folded(name: str) -> str:
    """Return a file's name in a form that is equal for two names of one file on macOS or Windows."""
    return unicodedata.normalize("NFC", name).casefold()


def refuse_overwriting(stems: Mapping[Path, str], endings: Mapping[str, str], several: bool, folder: Path) -> None:
    """Raise UsageError where a result would overwrite a bundle, a picture to explain, or another picture.

    Args:
        stems: A file stem for each picture.
        endings: Endings of the results' names.
        several: Whether a class number follows the stem.
        folder: Folder for the results.
    """
    if (folder / MANIFEST).exists():
        raise UsageError(f"{folder} is a bundle; choose another folder with -o")
    pictures = {image.resolve() for image in stems}
    images = {_folded(stem): image for image, stem in stems.items()}
    for file in folder.iterdir() if folder.is_dir() else ():
        for stem in (file.name.removesuffix(e) for e in endings.values() if file.name.endswith(e)):
            image = images.get(_folded(re.sub(r"-\d+$", "", stem) if several else stem))
            is_result = (folder / f"{stem}.json").exists()  # written before the pictures
            if image is not None and (file.resolve() in pictures or (file.suffix == ".png" and not is_result)):
                raise UsageError(
                    f"the results of {image} could overwrite a picture in {folder}; choose another folder with -o"
                )
