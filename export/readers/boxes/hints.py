"""Hints of a model about its boxes: in its metadata, as Ultralytics writes it, or in a configuration beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusioncam.detector import KEYPOINT
from fusioncam.export.reading.configurations import folders_of, read_json, read_literal


@dataclass(frozen=True)
class Hints:
    """Hints of a model about its own boxes.

    Attributes:
        kind: Ultralytics' name of the task, such as `detect` or `pose`, or transformers' type of the model, such as
            `detr`; None where nothing says it.
        classes: The number of classes, or None.
        keypoint: The numbers of a keypoint, with or without its visibility; by default with it.
    """

    kind: str | None = None
    classes: int | None = None
    keypoint: int = KEYPOINT


def hints_of(metadata: Mapping[str, str], folder: Path | None = None) -> Hints:
    """Return the hints of a model.

    Args:
        metadata: The model's metadata_props; Ultralytics writes values other than texts as Python does.
        folder: Where the model lies, perhaps with the `config.json` of transformers.
    """
    config = next(filter(None, map(_config, () if folder is None else folders_of(folder))), {})
    stated = {**config, **metadata}
    names = read_literal(metadata.get("names", "")) or config.get("id2label")
    classes = len(names) if isinstance(names, dict | list) and names else None
    kind = stated.get("task") or stated.get("model_type")
    shape = read_literal(metadata.get("kpt_shape", ""))
    of_two = isinstance(shape, list | tuple) and list(shape[1:]) == [KEYPOINT - 1]
    return Hints(None if kind is None else str(kind), classes, KEYPOINT - of_two)


def _config(folder: Path) -> dict[str, Any]:
    return read_json(folder / "config.json")
