"""Photos elsewhere, by fsspec: in buckets, at web addresses, in archives."""

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fusioncam.errors import ImageError, UsageError, first_line
from fusioncam.runtime.photos.fetching import fetch, public_address
from fusioncam.runtime.photos.folder import HEAD, Entry
from fusioncam.runtime.photos.limits import MAX_BYTES

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+(://|::)", re.IGNORECASE)
_LOGIN = re.compile(r"(://)[^/@:\s]*(:[^/@\s]*)?@")
WEB = ("http", "https")
VERSIONS = ("ETag", "etag", "md5Hash", "md5", "sha256")  # what stores call the version or the digest of a file


def is_web_file(address: str) -> bool:
    """Return whether an address is that of a file on the web, which needs no fsspec: it ends in no `/`."""
    return _is_of_the_web(address) and not address.endswith("/")


def is_address(name: str) -> bool:
    """Return whether a name is an address, such as `s3://bucket/photo.jpg` or `zip://photo.jpg::photos.zip`."""
    return _ADDRESS.match(name) is not None


def require_remote(address: str) -> None:
    """Raise UsageError, before any work, where a package is missing that an address needs."""
    first, *others = address.split("::")
    for part in (first, *(other for other in others if "://" in other)):  # others: a path on this machine, perhaps
        scheme = part.partition("://")[0]
        try:
            importlib.import_module("fsspec").get_filesystem_class(scheme)
        except ImportError as error:
            raise UsageError(f"{scheme}:// needs {_missing(scheme)}") from error
        except ValueError as error:
            raise UsageError(
                f"fsspec knows no addresses that begin with {scheme}://: check {public(address)!r}"
            ) from error


def _missing(scheme: str) -> str:
    """Return the package that brings a kind of address, and how to install it."""
    try:
        known = importlib.import_module("fsspec.registry").known_implementations[scheme]
    except ImportError:
        known = {"class": "fsspec"}
    package = str(known["class"]).partition(".")[0]
    if package == "fsspec" and scheme not in WEB and "err" in known:
        return f"a package more: {first_line(known['err'])}"
    package = '"fusioncam[remote]"' if package == "fsspec" else package
    return f"the package {package}: pip install {package}"


@dataclass(frozen=True)
class Remote:
    """A place that an address names.

    Attributes:
        files: fsspec's file system.
        path: The place there.
        prefix: Start of addresses there.
        suffix: End of addresses there: the archive, for a place in an archive.
    """

    files: Any
    path: str
    prefix: str
    suffix: str

    @classmethod
    def at(cls, address: str) -> "Remote":
        """Return the place of an address; raise an error of fsspec, or of what it uses, where there is none."""
        require_remote(address)
        head, chain, rest = address.partition("::")
        scheme, _, inside = head.partition("://")
        if chain and scheme != head:
            return cls(_archive(scheme, rest), inside.strip("/"), f"{scheme}://", f"::{rest}")
        files, path = importlib.import_module("fsspec.core").url_to_fs(address)
        return cls(files, path, "" if scheme in WEB else address[: address.rfind("://") + 3], "")

    @property
    def is_web(self) -> bool:
        """Return whether it is a web address, where paths hold any character and only links tell what is there."""
        return not self.prefix

    @property
    def name(self) -> str:
        """Return the name of the file alone."""
        return self.path.rstrip("/").rpartition("/")[2] or "picture"

    def address(self, path: str) -> str:
        """Return the address of another path there."""
        return path if self.is_web else f"{self.prefix}{path.lstrip('/')}{self.suffix}"

    def is_folder(self) -> bool:
        """Return whether the place is a folder; at a web address, only the `/` at the end can tell."""
        return self.path.endswith("/") if self.is_web else bool(self.files.isdir(self.path))

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield the files and folders in a folder, see `Walk`."""
        for entry in self.files.ls(folder, detail=True):
            place = str(entry["name"])
            name = place.rstrip("/").rpartition("/")[2]
            if name and place.strip("/") != folder.strip("/"):  # some file systems list the folder itself
                yield Entry(name, entry["type"] == "directory", place)

    def head(self, path: str) -> bytes:
        """Return the first bytes of a file; none where it cannot be read."""
        try:
            return bytes(self.files.cat_file(path, start=0, end=HEAD))
        except Exception:  # of any library
            return b""

    def matches(self) -> list[str]:
        """Return the paths of the files that the path matches as a pattern, sorted."""
        return sorted(
            path for path, entry in self.files.glob(self.path, detail=True).items() if entry["type"] == "file"
        )


@lru_cache(maxsize=4)
def _archive(scheme: str, rest: str) -> Any:
    """Return the file system of an archive, whose table of contents is read once."""
    return importlib.import_module("fsspec.core").url_to_fs(f"{scheme}://::{rest}")[0]


def read_remote(address: str) -> bytes:
    """Return the bytes of the file at an address.

    Raises:
        ImageError: It cannot be read, or is too large.
    """
    if is_web_file(address):
        return fetch(address)
    try:
        place = Remote.at(address)
        data = bytes(place.files.cat_file(place.path))
    except UsageError as error:
        raise ImageError(str(error)) from error
    except Exception as error:
        raise ImageError(unreadable(address, error)) from error
    if len(data) > MAX_BYTES:
        raise ImageError(f"{public(address)!r} has {len(data):,} bytes, the limit is {MAX_BYTES:,}: shrink it first")
    return data


def version_of(address: str) -> str | None:
    """Return what tells the version of a file without reading it, such as its ETag; None where nothing does."""
    if is_web_file(address):
        return None
    try:
        place = Remote.at(address)
        facts = place.files.info(place.path)
        return next((f"{name} {facts[name]}" for name in VERSIONS if facts.get(name)), None)
    except Exception:  # of any library: nothing is known then
        return None


def public(address: str) -> str:
    """Return an address without user and password, and of the web without a query, which may hold a signature."""
    return public_address(address) if _is_of_the_web(address) else without_logins(address)


def without_logins(text: str) -> str:
    """Return a text without the users and passwords of the addresses in it."""
    return _LOGIN.sub(r"\1", text)


def _is_of_the_web(address: str) -> bool:
    return address.lower().startswith(("http://", "https://")) and "::" not in address


def unreadable(address: str, error: Exception) -> str:
    """Return the error for an address that cannot be read; each file system has errors of its own."""
    shown = public(address)
    if isinstance(error, FileNotFoundError):
        return f"there is no picture {shown!r}: check the address"
    why = without_logins(first_line(error))
    return f"cannot read {shown!r}: {why}: check the address, the network and your permissions"
