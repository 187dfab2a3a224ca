"""The reader of annotations of all kinds, which are told apart by the contents of the file."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.manifest import sha256
from fusioncam.runtime.evaluation.annotations import coco, listing, voc
from fusioncam.runtime.evaluation.annotations.collection import Annotations
from fusioncam.runtime.evaluation.annotations.model import Entry, Problem
from fusioncam.runtime.evaluation.annotations.names import Names
from fusioncam.runtime.evaluation.annotations.outlines import MaskFile
from fusioncam.runtime.photos.folder import files_in

KINDS = "COCO JSON, Pascal VOC XML (a file or a folder of them), or a JSON list of {file, accept_classes, boxes}"
MAX_BYTES = 2 << 30


def read_annotations(path: Path, labels: Sequence[str] | None, classes: int, class_offset: int = 0) -> Annotations:
    """Read all annotations of a file or a folder.

    Args:
        path: A COCO JSON file, a Pascal VOC XML file or a folder of them, or a JSON list of photos.
        labels: The labels of the model, to look category names up in.
        classes: The number of classes of the model.
        class_offset: Added to class numbers: 1 for a model whose class 0 is a background the numbers do not count.

    Returns:
        All annotations that can be read; `problems` names the others.

    Raises:
        UsageError: No annotation can be read.
    """
    names = Names(labels, classes, class_offset)
    digest = hashlib.sha256()
    entries: list[Entry] = []
    problems: list[Problem] = []
    folder = path.is_dir()
    files = [f for f in files_in(path, "give annotations", True) if f.suffix.lower() == ".xml"] if folder else [path]
    if not files:
        raise UsageError(f"{path} holds no .xml file; give {KINDS}")
    for file in files:
        try:
            data = _bytes(file)
            digest.update(file.name.encode("utf-8", "surrogateescape") + b"\0" + hashlib.sha256(data).digest())
            entries += _parse(data, file, names, problems)
        except ValueError as error:
            if not folder:
                raise UsageError(f"{path} cannot be read as annotations ({error}); give {KINDS}") from error
            problems.append(Problem(None, f"{file.relative_to(path)} cannot be read: {error}"))
    if not entries:
        why = f" ({problems[0].text})" if problems else ""
        raise UsageError(f"{path} annotates no photo{why}; give {KINDS}")
    masks = {t.outline.path for e in entries for t in e.objects if isinstance(t.outline, MaskFile)}
    for mask in sorted(masks):
        # A mask that cannot be read becomes a problem when it is drawn.
        with suppress(OSError):
            digest.update(bytes.fromhex(sha256(mask)))
    merged = _merged(entries, problems)
    return Annotations(merged, (*names.problems(), *problems), frozenset(masks), digest.hexdigest())


def _bytes(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES:,} bytes")
        return file.read_bytes()
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error


def _parse(data: bytes, file: Path, names: Names, problems: list[Problem]) -> list[Entry]:
    """Return the entries of one file; raise ValueError, with the reason, where it is of no known kind."""
    # XML may also come in UTF-16.
    if data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"<", b"\xff\xfe<", b"\xfe\xff\0<")):
        return voc.entries(data, file.stem, names, problems)
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is neither JSON nor XML, or is damaged") from error
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        return coco.entries(content, names, problems)
    if isinstance(content, list) and any(isinstance(item, dict) and "file" in item for item in content):
        return listing.entries(content, file.parent, names, problems)
    raise ValueError("its JSON is none of those known here")


def _merged(entries: list[Entry], problems: list[Problem]) -> dict[str, Entry]:
    """Return the entries by name; several entries of one photo become one."""
    merged: dict[str, Entry] = {}
    for entry in entries:
        name = entry.names[0]
        first = merged.get(name)
        if first is None:
            merged[name] = entry
        elif first.size != entry.size:
            problems.append(Problem(name, "annotated several times, at different sizes: only the first is used"))
        else:
            problems.append(Problem(name, "annotated several times: merged"))
            objects = (*first.objects, *entry.objects)
            merged[name] = replace(first, accepted=first.accepted | entry.accepted, objects=objects)
    return merged
