"""The names that a user gives: files, folders, patterns, addresses, or a list of such on standard input."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

from fusioncam.errors import UsageError, first_line
from fusioncam.runtime.photos.folder import (
    Walk,
    is_below,
    is_photo,
    local_entries,
    local_head,
    no_photo,
    results_among,
)
from fusioncam.runtime.photos.sources.photo_file import PhotoFile
from fusioncam.runtime.photos.sources.remote import Remote, is_address, is_web_file, require_remote, unreadable

BLOCK = 1 << 16  # bytes of standard input at a time
BOM = b"\xef\xbb\xbf"  # before text that Windows writes
HERE = "file://"
_PATTERN = re.compile(r"[*?[]")


class PhotoFiles:
    """The files of the photos that a user names, one after the other; a folder is read when its turn comes.

    What leads to no photo becomes a `PhotoFile` with a problem: an empty folder, a pattern without a match.

    Args:
        names: Files, folders, patterns (`photos/**/*.jpg`) and addresses (`s3://bucket/photos`). A name that exists as
            it stands is no pattern.
        recursive: Whether to go through subfolders.
        results: Folder of the results, which is left out.
        arrays: Whether arrays in folders count as photos, see `Walk`.

    Attributes:
        skipped: Number of files in folders so far that were left out: hidden ones, and those that are no photos by
            their names.
        unsearched: Number of subfolders so far that were passed over.
    """

    def __init__(
        self, names: Iterable[str], recursive: bool = False, results: Path | None = None, arrays: bool = False
    ) -> None:
        self._names, self._recursive, self._results, self._arrays = names, recursive, results, arrays
        self.skipped = self.unsearched = 0

    def __iter__(self) -> Iterator[PhotoFile]:
        for given in self._names:
            name = url2pathname(urlsplit(given).path) if given.startswith(HERE) else given
            if _is_folder(name):
                yield from self._in_folder(name)
            elif os.path.lexists(name):
                yield PhotoFile(name, Path(name).name)
            elif is_address(name):
                yield from self._at_address(name)
            elif _PATTERN.search(name):
                yield from self._matching(name)
            else:
                yield PhotoFile(name, Path(name).name)

    def _in_folder(self, folder: str) -> Iterator[PhotoFile]:
        """Yield the photos of a folder on this machine, without those among the results."""
        try:
            results = {Path(os.path.realpath(p)) for p in self._among(folder)}
        except UsageError as error:
            yield PhotoFile.missing(folder, str(error))
            return
        walk = Walk(local_entries, self._recursive, self._arrays)
        for file in self._walked(folder, walk, folder, local_head, PhotoFile):
            if file.problem or not is_below(file.name, results):
                yield file

    def _among(self, folder: str) -> list[Path]:
        return [] if self._results is None else results_among(Path(folder), self._results)

    def _matching(self, pattern: str) -> Iterator[PhotoFile]:
        """Yield the photos whose names match a pattern, without those among the results."""
        results = set() if self._results is None else {Path(os.path.realpath(self._results))}
        places = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  (of names, which need be no paths)
        left = (place for place in places if not is_below(place, results) and not _is_folder(place))
        yield from self._matched(pattern, pattern, left, local_head, str)

    def _at_address(self, address: str) -> Iterator[PhotoFile]:
        """Yield the photo at an address, or the photos of a folder there, or those that match a pattern there."""
        if is_web_file(address):
            yield PhotoFile(address, PurePosixPath(urlsplit(address).path).name or "picture")
            return
        try:
            remote = Remote.at(address)
            if not remote.is_web and _PATTERN.search(remote.path):
                yield from self._matched(address, remote.path, remote.matches(), remote.head, remote.address)
                return
            is_folder = remote.is_folder()
        except Exception as error:  # of any library
            problem = str(error) if isinstance(error, UsageError) else unreadable(address, error)
            yield PhotoFile.missing(address, problem)
            return
        if not is_folder:
            yield PhotoFile(address, remote.name)
            return

        def file(place: str, path: str) -> PhotoFile:
            return PhotoFile(remote.address(place), path)

        walk = Walk(remote.entries, self._recursive, self._arrays)
        yield from self._walked(address, walk, remote.path, remote.head, file)

    def _walked(
        self,
        name: str,
        walk: Walk,
        folder: str,
        head: Callable[[str], bytes],
        file: Callable[[str, str], PhotoFile],
    ) -> Iterator[PhotoFile]:
        """Yield the photos on the way through a folder, then the subfolders that could not be read."""
        problems, found, before = list[PhotoFile](), False, self.skipped

        def failed(folder: str, error: Exception) -> None:
            reason = getattr(error, "strerror", None) or first_line(error)
            problems.append(
                PhotoFile.missing(folder, f"folder {folder!r} cannot be read: {reason}: check its permissions")
            )

        walk.failed = failed
        for path, place in walk.photos(folder, head):
            self.skipped, found = before + walk.skipped, True
            yield file(place, _safe(path))
        self.skipped = before + walk.skipped
        self.unsearched += walk.unsearched if found else 0  # else the error names -r
        if not found and not problems:
            problems.append(PhotoFile.missing(name, no_photo(name, self._recursive, "; add -r")))
        yield from problems

    def _matched(
        self,
        given: str,
        pattern: str,
        places: Iterable[str],
        head: Callable[[str], bytes],
        name: Callable[[str], str],
    ) -> Iterator[PhotoFile]:
        """Yield the photos among the files that match a pattern; their paths begin where the pattern varies."""
        fixed = pattern[: _PATTERN.search(pattern).start()].rpartition("/")[0]  # type: ignore[union-attr]
        found = False
        for place in places:
            if not is_photo(place, partial(head, place), self._arrays):
                self.skipped += 1
                continue
            found = True
            yield PhotoFile(name(place), _safe(place.removeprefix(fixed)))
        if not found:
            yield PhotoFile.missing(given, f"no photo matches {given!r}: check the pattern")


def check_names(names: Iterable[str], results: Path) -> None:
    """Refuse, before any work, names that cannot work.

    Raises:
        UsageError: The results would lie in a folder of photos itself, or a package is missing that an address needs.
    """
    for name in names:
        if _is_folder(name):
            results_among(Path(name), results)
        elif is_address(name) and not (name.startswith(HERE) or is_web_file(name) or os.path.lexists(name)):
            require_remote(name)


def _is_folder(name: str) -> bool:
    """Return whether a name is that of a folder; a name that is too long, or lies where nobody may look, is not."""
    return os.path.isdir(name)  # noqa: PTH112  (Path.is_dir raises an error)


def names_in(stream: BufferedReader, end: bytes) -> Iterator[str]:
    """Yield the names in a stream as they come.

    Args:
        stream: Standard input.
        end: The byte after each name: a line feed, or NUL for names that hold line feeds.
    """
    rest, mark = b"", BOM
    while block := stream.read1(BLOCK):
        *names, rest = (rest + block).removeprefix(mark).split(end)
        mark = b""
        yield from (os.fsdecode(name) for name in map(_line, names) if name)
    if _line(rest):
        yield os.fsdecode(_line(rest))


def _line(name: bytes) -> bytes:
    return name.removesuffix(b"\r")


def _safe(path: str) -> str:
    """Return a path that stays in its folder, whatever a bucket or an archive calls its files."""
    parts = [part for part in PurePosixPath(path).parts if part.strip("/") not in ("", "..", ".")]
    return "/".join(parts) or "picture"
