"""The references that embeddings of photos are compared with: one for all, or a table of pairs."""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fusioncam.errors import UsageError
from fusioncam.manifest import sha256
from fusioncam.runtime.evaluation.annotations import Problem

HEADER = ["picture", "reference"]


@dataclass(frozen=True)
class References:
    """The references that the embeddings of photos are compared with.

    Attributes:
        of_photo: By the photo's path in its folder, the files of its references: pictures, or vectors in `.npy`.
        problems: Photos without a reference, and names of a table that are no photos.
        sha256: Digest of all pairs and of the references; None without any.
    """

    of_photo: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    sha256: str | None = None

    @property
    def files(self) -> list[Path]:
        """Return the files of all references, each once."""
        return list(dict.fromkeys(file for files in self.of_photo.values() for file in files))


class Pair(NamedTuple):
    """A row of a table of pairs: the name of a picture, and the file of its reference."""

    picture: str
    reference: Path


def one_reference(reference: Path, photos: Iterable[str]) -> References:
    """Return the same reference for all photos; raise UsageError where there is no such file."""
    if not reference.is_file():
        raise UsageError(f"there is no reference {reference}: give a picture, or a vector in a .npy file")
    return _references(dict.fromkeys(photos, (reference.absolute(),)))


def read_pairs(table: Path, photos: Iterable[str]) -> References:
    """Read a table of pairs: a CSV of two columns, the picture and its reference, with or without those as a header.

    Args:
        table: The file. References are relative to its folder; a picture may have several, in a row each.
        photos: Paths of the photos within their folder, as the table names them.

    Raises:
        UsageError: The file cannot be read, a row has other columns, a reference is missing, or no photo has one.
    """
    known = dict.fromkeys(photos)
    of_photo: dict[str, tuple[Path, ...]] = {}
    problems = []
    for pair in _pairs(table):
        if pair.picture in known:
            of_photo[pair.picture] = tuple(dict.fromkeys((*of_photo.get(pair.picture, ()), pair.reference)))
        else:
            problems.append(Problem(pair.picture, f"named in {table.name}, but not among the photos"))
    if not of_photo:
        raise UsageError(f"{table} names no photo of the folder: write their paths within it, such as {_one_of(known)}")
    problems += [Problem(photo, f"no reference in {table.name}: left out") for photo in known if photo not in of_photo]
    return _references({photo: of_photo[photo] for photo in known if photo in of_photo}, problems)


def _pairs(table: Path) -> Iterator[Pair]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = [(n, [cell.strip() for cell in row]) for n, row in enumerate(csv.reader(file), 1) if any(row)]
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{table} cannot be read as a table of pairs: {error}") from error
    for n, row in rows:
        if [cell.lower() for cell in row] == HEADER:
            continue
        if len(row) != len(HEADER):
            raise UsageError(f"{table}, line {n}: write two columns, the picture and its reference, not {len(row)}")
        reference = (table.parent / row[1]).absolute()
        if not reference.is_file():
            raise UsageError(f"{table}, line {n}: there is no file {row[1]!r} in the folder of the table")
        yield Pair(row[0].replace("\\", "/").removeprefix("./"), reference)


def _references(of_photo: Mapping[str, tuple[Path, ...]], problems: Iterable[Problem] = ()) -> References:
    references = References(of_photo, tuple(problems))
    digests = {file: sha256(file) for file in references.files}
    pairs = sorted((photo, [digests[file] for file in files]) for photo, files in of_photo.items())
    return References(of_photo, references.problems, hashlib.sha256(repr(pairs).encode()).hexdigest())


def _one_of(photos: Iterable[str]) -> str:
    return next((repr(photo) for photo in photos), "'photo.jpg'")
