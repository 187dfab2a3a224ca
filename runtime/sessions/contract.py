"""A bundle's graphs held against its manifest when they are opened: what does not fit would give wrong numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import onnxruntime

from fusioncam.errors import BundleError
from fusioncam.manifest import EXPLAIN_GRAPH, FACTS, HEAD_GRAPH, MANIFEST, SCORE_GRAPH, Manifest

Tensors: TypeAlias = Mapping[str, tuple[str, Sequence[Any]]]
"""Types, as onnxruntime names them, and shapes of a graph's inputs or outputs; the first axis is left out."""

FLOAT, HALF, INT64 = "tensor(float)", "tensor(float16)", "tensor(int64)"


def check_session(session: onnxruntime.InferenceSession, path: Path, manifest: Manifest, inputs: bool = True) -> None:
    """Hold the session of a graph, by its file's name, against the manifest.

    Args:
        session: The session.
        path: The graph's file.
        manifest: The bundle's.
        inputs: Whether its inputs are the file's.

    Raises:
        BundleError: Inputs, outputs, or what the graph says of the bundle are not what the manifest says.
    """
    taken, given = expected(path.name, manifest)
    try:
        its_inputs, its_outputs = (
            {i.name: (i.type, i.shape[1:]) for i in each} for each in (session.get_inputs(), session.get_outputs())
        )
        said = session.get_modelmeta().custom_metadata_map.get(FACTS)
    except UnicodeDecodeError:
        _refuse(path, "a text in it is damaged")
    if inputs:
        compare(path, taken, its_inputs)
    compare(path, given, its_outputs)
    if path.name == EXPLAIN_GRAPH and said is not None and said != manifest.facts:  # older bundles do not say
        _refuse(path, _difference(said, manifest.facts))


def expected(name: str, manifest: Manifest) -> tuple[Tensors, Tensors]:
    """Inputs and outputs that a graph has by the manifest."""
    channels, *grid = manifest.layer.shape
    image = (FLOAT, (3, *manifest.preprocessing.size))
    logits = {"logits": (FLOAT, (manifest.classes,))}
    layer = (FLOAT, (channels, *grid))
    if name == SCORE_GRAPH:
        return {"image": (HALF, image[1]) if manifest.score_precision == "float16" else image}, logits
    if name == HEAD_GRAPH:
        return {"image": image, "masks": (FLOAT, (1, *grid))}, logits
    gradients = {"gradients": layer} if manifest.gradient else {}
    return {"image": image, "class_index": (INT64, ())}, {**logits, "activations": layer, **gradients}


def compare(path: Path, wanted: Tensors, found: Tensors) -> None:
    """Raise BundleError where a graph's inputs or outputs are not those wanted; an axis without a size fits any."""
    for name in sorted({*wanted, *found}):
        if name not in found:
            _refuse(path, f"it has no {name}")
        if name not in wanted:
            _refuse(path, f"it has {name}, of which the manifest does not know")
        (kind, shape), (its_kind, its_shape) = wanted[name], found[name]
        fits = len(shape) == len(its_shape) and all(
            not isinstance(its, int) or its == size for size, its in zip(shape, its_shape, strict=True)
        )
        if kind != its_kind or not fits:
            _refuse(path, f"its {name} is {its_kind} {list(its_shape)}, not {kind} {list(shape)}")


def _difference(said: str, wanted: str) -> str:
    ours = json.loads(wanted)
    try:
        theirs = json.loads(said)
        name = next(key for key in ours if ours[key] != theirs[key])
    except (ValueError, LookupError, TypeError, StopIteration):
        return "it was made for another manifest"
    return f"it was made with another {name}"


def _refuse(path: Path, why: str) -> NoReturn:
    raise BundleError(f"{path} does not fit the {MANIFEST} beside it: {why}; export the model again")
