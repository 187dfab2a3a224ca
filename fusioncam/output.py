"""Results out: files that are either written whole or not at all, and the bytes that go into them."""

import errno
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fusioncam.errors import OutputError
from fusioncam.files import replacing
from fusioncam.kernels.arrays import Array, UInt8Array

Content = bytes | Callable[[BinaryIO], None]
"""The content of a file: all of its bytes, or a function that writes it piece by piece."""

_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space or choose another place"),
    errno.EFBIG: "choose a place that takes larger files",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "make its folder first, or choose another place",
}


WEBP_QUALITY = 90


def advice_on(error: Exception) -> str:
    """Return advice about a file that cannot be written."""
    number = getattr(error, "errno", None)
    return _ADVICE.get(number or 0, "make its folder writable or choose another place")


def _refusal(path: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or error
    only_name = getattr(error, "errno", None) in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
    return OutputError(f"cannot write {str(path)!r}: {reason}: {advice_on(error)}", only_name)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or, if anything interrupts, leave what was there before; follow a link.

    Args:
        path: The file; its folder must exist.
        data: All of its content.

    Raises:
        OutputError: The folder is missing or not writable, the disk is full, or `path` is no ordinary file.
    """
    write_together([(path, data)])


def write_together(files: Iterable[tuple[str | os.PathLike[str], Content]]) -> None:
    """Write files that belong together: all of them or, if anything interrupts, none; follow links.

    Args:
        files: Paths and contents. They are taken one after the other, so that not all need be in memory.

    Raises:
        OutputError: As of `write_atomically`.
    """
    path: str | os.PathLike[str] = ""
    try:
        with replacing() as opened:
            for path, content in files:
                with opened(_target(path)) as file:
                    if callable(content):
                        content(file)
                    else:
                        file.write(content)
    except OSError as error:
        raise _refusal(Path(path), error) from error


def _target(path: str | os.PathLike[str]) -> Path:
    """Return the file behind a path; raise OutputError where it is no ordinary one."""
    try:
        target = Path(os.path.realpath(path))
    except ValueError as error:  # a null byte, or what no file system can encode
        raise _refusal(Path(path), error) from error
    if target.exists() and not target.is_file():
        raise OutputError(f"cannot write {str(path)!r}: it is not an ordinary file: choose another name", True)
    return target


def prepare_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder, and its parents, unless it is there; a trial file shows early that results can go into it.

    Raises:
        OutputError: Something that is not a folder is in the way, or the place is not writable.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (FileExistsError, NotADirectoryError):
        message = f"cannot make folder {str(folder)!r}: a file is in the way: choose another name"
        raise OutputError(message, only_name=True) from None
    except (OSError, ValueError) as error:
        raise _refusal(folder, error) from error


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 picture`, `2 pictures`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def encode_png(rgb: UInt8Array) -> bytes:
    """Return an (H, W, 3) uint8 RGB picture as PNG bytes; equal pictures give equal bytes."""
    import cv2  # here: the command line prints where OpenCV does not load

    _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def encode_webp(rgb: UInt8Array) -> bytes:
    """Return an (H, W, 3) uint8 RGB picture as WebP bytes: smaller than PNG, and not quite the same pixels."""
    import cv2

    _, data = cv2.imencode(".webp", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
    return data.tobytes()


def write_npz(file: BinaryIO, arrays: Mapping[str, Array] | Iterable[tuple[str, Array]]) -> None:
    """Write an `.npz` file with one array per name, stored plain: maps hardly compress.

    Args:
        file: Open, and such that one can go back in it.
        arrays: Pairs are taken one after the other, so that one large array at a time is in memory.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items() if isinstance(arrays, Mapping) else arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, np.asarray(array), allow_pickle=False)
            del array  # before the next one is made


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def plain(value: Any) -> Any:
    """Return a value as JSON has it: NumPy's as Python's, tuples as lists, NaN and infinity as None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_bytes(obj: object, indent: int | None = 2) -> bytes:
    """Return UTF-8 JSON, readable or with `indent` None in one line; NumPy values become plain ones.

    Raises:
        ValueError: NaN or infinity, which JSON does not have.
    """
    text = json.dumps(obj, indent=indent, ensure_ascii=False, allow_nan=False, default=_plain)
    # A file name that is not UTF-8 holds lone surrogates; written as \udcXX they are valid JSON.
    return (text + "\n").encode("utf-8", "backslashreplace")
