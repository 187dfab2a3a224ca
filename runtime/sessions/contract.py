"""Check of a bundle's graphs against its manifest as they are opened: a graph that does not fit gives wrong numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import onnxruntime

from fusioncam.errors import BundleError
from fusioncam.forms import ACTIVATIONS, CONFIDENCES, GRADIENTS, SCORES, TARGETS_AXIS, of_level
from fusioncam.manifest import EXPLAIN_GRAPH, FACTS, HEAD_GRAPH, MANIFEST, SCORE_GRAPH, Manifest

Tensors: TypeAlias = Mapping[str, tuple[str, Sequence[Any]]]
"""Types, as onnxruntime names them, and shapes of a graph's inputs or outputs; the first axis is left out."""

FLOAT, HALF = "tensor(float)", "tensor(float16)"
TYPES = {"float32": FLOAT, "int64": "tensor(int64)", "bool": "tensor(bool)"}  # onnxruntime's names, by NumPy's


def check_session(session: onnxruntime.InferenceSession, path: Path, manifest: Manifest, inputs: bool = True) -> None:
    """Compare the session of a graph with the manifest; the file's name says which graph it is.

    Args:
        session: The session.
        path: The graph's file.
        manifest: The bundle's.
        inputs: Whether the session has the file's own inputs.

    Raises:
        BundleError: Inputs, outputs or the facts in the graph's metadata differ from the manifest.
    """
    inputs_expected, outputs_expected = expected(path.name, manifest)
    try:
        own_inputs, own_outputs = (
            {t.name: (t.type, t.shape[1:]) for t in tensors}
            for tensors in (session.get_inputs(), session.get_outputs())
        )
        facts = session.get_modelmeta().custom_metadata_map.get(FACTS)
    except UnicodeDecodeError:
        _refuse(path, "a text in it is damaged")
    if inputs:
        compare(path, inputs_expected, own_inputs)
    compare(path, outputs_expected, own_outputs)
    if path.name == EXPLAIN_GRAPH and facts is not None and facts != manifest.facts:  # older bundles have no facts
        _refuse(path, _difference(facts, manifest.facts))


def expected(name: str, manifest: Manifest) -> tuple[Tensors, Tensors]:
    """Return the inputs and outputs that the manifest promises for a graph."""
    form, grid = manifest.form, manifest.layer.grid
    image = (FLOAT, manifest.preprocessing.shape)
    further = {each.tensor: (each.runtime_type, each.shape) for each in manifest.inputs}
    output = {form.output.name: (FLOAT, form.output.shape)}
    targets = {t.name: (TYPES[t.dtype], t.shape) for t in form.targets}
    crosswise = dict.fromkeys((SCORES, CONFIDENCES), (FLOAT, (TARGETS_AXIS,))) if form.scored else output
    told = targets if form.scored else {}  # a vector is read by whoever runs the graph
    if name == SCORE_GRAPH:
        half = manifest.score_precision == "float16"
        return {"image": (HALF if half else FLOAT, image[1]), **further, **told}, crosswise
    if name == HEAD_GRAPH:
        return {"image": image, "masks": (FLOAT, (1, *grid)), **further, **told}, crosswise
    rowwise = dict.fromkeys((SCORES, CONFIDENCES), (FLOAT, ())) if form.scored else {}
    names = (ACTIVATIONS, GRADIENTS) if manifest.gradient else (ACTIVATIONS,)
    levels = {of_level(name, n): (FLOAT, layer.shape) for n, layer in enumerate(manifest.layers) for name in names}
    masks = {} if (prototypes := form.prototypes) is None else {prototypes.name: (FLOAT, prototypes.shape)}
    return {"image": image, **further, **targets}, {**output, **masks, **rowwise, **levels}


def compare(path: Path, promised: Tensors, own: Tensors) -> None:
    """Raise BundleError where a graph's own inputs or outputs are not the promised ones; a free axis fits any size."""
    for name in sorted({*promised, *own}):
        if name not in own:
            _refuse(path, f"it has no {name}")
        if name not in promised:
            _refuse(path, f"it has {name}, which the manifest does not name")
        (kind, shape), (own_kind, own_shape) = promised[name], own[name]
        fits = len(shape) == len(own_shape) and all(
            not isinstance(own_size, int) or own_size == size for size, own_size in zip(shape, own_shape, strict=True)
        )
        if kind != own_kind or not fits:
            _refuse(path, f"its {name} is {own_kind} {list(own_shape)}, not {kind} {list(shape)}")


def _difference(graph_facts: str, manifest_facts: str) -> str:
    ours = json.loads(manifest_facts)
    try:
        theirs = json.loads(graph_facts)
        name = next(key for key in ours if ours[key] != theirs[key])
    except (ValueError, LookupError, TypeError, StopIteration):
        return "it was made for another manifest"
    return f"it was made with another {name}"


def _refuse(path: Path, reason: str) -> NoReturn:
    raise BundleError(f"{path} does not fit the {MANIFEST} beside it: {reason}; export the model again")
