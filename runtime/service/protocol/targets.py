"""The targets of a request: which inputs and parameters say what is explained, and the targets that follow of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.engine import Asked, TargetChoice
from fusioncam.runtime.photos.decode import decode_channels
from fusioncam.runtime.photos.formats.npy import is_array_file, read_array
from fusioncam.runtime.photos.given import Given
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.photos.reading import picture_of
from fusioncam.runtime.service.protocol.detections import OF_DETECTORS, detections_of
from fusioncam.runtime.service.protocol.request_parser import ParsedRequest, file_of
from fusioncam.runtime.service.protocol.schemas import Datatype
from fusioncam.runtime.service.protocol.target_parameters import PARSERS
from fusioncam.runtime.service.protocol.tensors import Tensor
from fusioncam.runtime.targets.kinds import Box, Class, Like, Region, Value
from fusioncam.runtime.targets.tasks import Checked, checked_target, task_of

TARGET_INPUTS: Mapping[str, Datatype] = {
    "value": "INT64",
    "detection": "INT64",
    "box": "FP32",
    "point": "FP32",
    "region": "FP32",
    "region_bytes": "BYTES",
    "reference": "FP32",
    "reference_bytes": "BYTES",
}
"""Inputs that name targets beside `class_index`, with their datatypes."""

CLASS = ("class_index", "class")
OF_KIND: Mapping[type, tuple[str, ...]] = {
    Class: CLASS,
    Value: (*CLASS, "value", "down"),
    Region: (*CLASS, "point", "region", "region_bytes", "peak"),
    Like: ("reference", "reference_bytes"),
    Box: (*CLASS, *OF_DETECTORS),
}
"""Inputs and parameters that name a target of each kind, of those that a request may name."""
ALTERNATIVES = (
    ("point", "region", "region_bytes"),
    ("reference", "reference_bytes"),
    ("value", "class_index"),
    ("box", "point", "detection", "together"),
)
"""Names of which a request has one at most."""

MOST_MAPPED = 64
"""Targets of a request that get maps: bounds the memory, as each of them has activations and gradients, and a row of
a panel."""

PerPicture = Sequence[Checked] | TargetChoice


def fitting_names(manifest: Manifest) -> list[str]:
    """Return the inputs and parameters that name targets of a model."""
    return list(dict.fromkeys(name for kind in task_of(manifest).kinds for name in OF_KIND.get(kind, ())))


@dataclass(frozen=True)
class TargetReader:
    """The reader of the targets of a request.

    Attributes:
        manifest: The model's.
        preprocessing: That of the request's pictures.
        max_pixels: The most pixels of a mask or a reference.
        several: The most pictures of a request, where each may have several targets.
        mapped: Whether there are maps of them; a list of detections without maps has all.
    """

    manifest: Manifest
    preprocessing: Preprocessing
    max_pixels: int
    several: float
    mapped: bool = True

    def targets(
        self, tensors: Mapping[str, Tensor], parameters: Mapping[str, Any], parsed: ParsedRequest, pictures: int
    ) -> list[PerPicture]:
        """Return the targets of each picture of a request.

        Args:
            tensors: Its tensors by name.
            parameters: Its parameters, with `class_index` for `class`.
            parsed: Its other choices, among them classes.
            pictures: How many it is about.

        Raises:
            UsageError: What names targets does not fit the model, makes no sense, or is not one for all pictures or one
                for each.
            ImageError: A mask or a reference cannot be read.
        """
        given = {n for n in (*CLASS, *TARGET_INPUTS, *PARSERS) if n in tensors or n in parameters}
        self._check_names(given)
        fields = {name: values for name, values in self._fields(tensors, parameters).items() if name in given}
        if "class_index" in given:
            fields["class_index"] = parsed.class_numbers
        if not given and self.manifest.detector is None:
            return [self._default(pictures)] * pictures
        rows = self._row_count(fields, pictures)
        single = pictures > self.several
        named = [
            checked_target(self.manifest, self._target({f: v[n % len(v)] for f, v in fields.items()}, single))
            for n in range(rows)
        ]
        return [named] if pictures == 1 else [[named[n % rows]] for n in range(pictures)]

    def _check_names(self, given: set[str]) -> None:
        """Raise UsageError for what does not fit the model, or says the same as another."""
        fitting = fitting_names(self.manifest)
        for name in sorted(given - {"class_index", *fitting}):
            does = task_of(self.manifest).does
            raise UsageError(f"{name} does not fit a model that {does}: it takes {', '.join(fitting)}")
        for names in ALTERNATIVES:
            if len(both := [name for name in names if name in given]) > 1:
                raise UsageError(f"{' and '.join(both)} say different things of one target: give one of them")

    def _row_count(self, fields: Mapping[str, Sequence[Any]], pictures: int) -> int:
        rows = max(map(len, fields.values()), default=1)
        what = "class numbers" if set(fields) == {"class_index"} else "targets"
        many = pictures == 1 and self.several and self.manifest.form.scored
        fits = {1, rows if many else pictures}
        wrong = next((len(values) for values in fields.values() if len(values) not in fits), None)
        if wrong is not None:
            raise UsageError(f"{wrong} {what} for {pictures} pictures: give one for all, or one for each")
        asked = max(rows, *fields.get("most", [0]))
        if self.mapped and asked > MOST_MAPPED:
            raise UsageError(f"maps of {asked} targets are asked for, {MOST_MAPPED} are the most in a request")
        return rows

    def _fields(self, tensors: Mapping[str, Tensor], parameters: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
        """Return the rows of what names targets, by name."""
        fields: dict[str, Sequence[Any]] = {}
        for name, read in self._readers().items():
            if name in tensors:
                fields[name] = read(tensors[name])
                if not fields[name]:
                    raise UsageError(f"input {name!r} is empty: give one row or more")
        for name in PARSERS:
            if name in parameters:
                if name in tensors:
                    raise UsageError(f"{name} is given as an input and as a parameter: give it once")
                read = PARSERS[name](name, parameters[name])
                fields[name] = read if isinstance(read, list) else [read]
                if not fields[name]:
                    raise UsageError(f"the parameter {name} is empty: give one or more")
        return fields

    def _readers(self) -> Mapping[str, Callable[[Tensor], list[Any]]]:
        """Return the functions that read the rows of the inputs."""
        return {
            "value": _numbers,
            "detection": _numbers,
            "point": lambda tensor: _rows("point", tensor, 1),
            "box": lambda tensor: _rows("box", tensor, 1),
            "region": lambda tensor: _rows("region", tensor, 2),
            "region_bytes": lambda tensor: [self._mask(file) for file in _files(tensor)],
            "reference": lambda tensor: _rows("reference", tensor, 1),
            "reference_bytes": lambda tensor: [self._reference(file) for file in _files(tensor)],
        }

    def _default(self, pictures: int) -> PerPicture:
        """Return the targets of a picture where the request names none."""
        kind = self.manifest.form.kind
        if kind == "embedding":
            raise self._no_reference()
        return _every if kind == "maps" and pictures <= self.several else [None]

    def _no_reference(self) -> UsageError:
        return UsageError(
            f"an embedding needs something to be compared with: send reference, a vector of {self.manifest.classes} "
            "numbers, or reference_bytes, a picture; in a form the file like"
        )

    def _target(self, given: Mapping[str, Any], single: bool) -> Asked:
        """Return a target by what names it.

        Args:
            given: Values by the names of inputs and parameters.
            single: Whether it must be one target, and not a group of them.
        """
        if self.manifest.detector is not None:
            return detections_of(given, single, self.mapped, self.manifest.detector)
        kinds, c = task_of(self.manifest).kinds, given.get("class_index", -1)
        for reference in ("reference", "reference_bytes"):
            if reference in given:
                return Like(given[reference])
        if Like in kinds and c < 0:
            raise self._no_reference()
        if Region in kinds and given.keys() & {"point", "region", "region_bytes", "peak"}:
            if "down" in given:
                raise UsageError("down goes with a value of the whole picture, not with a region or peak: leave it out")
            masks = [given[name] for name in ("region", "region_bytes") if name in given]
            c = given.get("value", c)
            mask = masks[0] if masks else None
            return Region(None if c < 0 else c, mask, given.get("point"), given.get("peak", False))
        if given.keys() & {"value", "down"}:
            return Value(given.get("value", max(c, 0)), given.get("down", False))
        return int(c)

    def _mask(self, file: bytes) -> Array:
        """Return the mask in a file."""
        if is_array_file(file):
            return read_array(file, "the region", self.max_pixels)
        return np.asarray(decode_channels(file, "the region", self.max_pixels, declared=True).any(axis=2))

    def _reference(self, file: bytes) -> Array:
        """Return the vector in a file, or the picture as the model takes it."""
        if is_array_file(file):
            array = read_array(file, "the reference", self.max_pixels * max(self.preprocessing.channels, 3))
            if array.ndim == 1:
                return array
        pixels = picture_of(file, "the reference", self.preprocessing, self.max_pixels, declared=True)
        return as_input(Given.photo(pixels), self.preprocessing)[1]


def _every(confidences: Array) -> list[int]:
    """Choose every target, in order."""
    return list(range(len(confidences)))


def _rows(name: str, tensor: Tensor, rank: int) -> list[Array]:
    """Return the rows of a tensor, each of so many axes; a single row may come without the axis of rows."""
    values = np.asarray(tensor.values)
    rows = values[None] if values.ndim == rank else values
    if rows.ndim != rank + 1:
        row = "H, W" if rank == 2 else {"point": "2", "box": "4"}.get(name, "D")
        raise UsageError(f"input {name!r} must be of shape ({row}) or (R, {row}), not {tensor.shape}")
    return list(rows)


def _numbers(tensor: Tensor) -> list[int]:
    return list(np.asarray(tensor.values).ravel().tolist())


def _files(tensor: Tensor) -> list[bytes]:
    return [file_of(value, "the file") if tensor.from_json else bytes(value) for value in tensor.values]
