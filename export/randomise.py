"""A bundle whose weights are shuffled, for the sanity check of Adebayo et al. (arXiv 1810.03292).

A map that stays the same when the weights are shuffled shows the picture, not the model.
"""

import os
from pathlib import Path
from typing import TypeGuard

import numpy as np
import onnx_ir as ir

from fusioncam.errors import UsageError
from fusioncam.export.bundle import read_frozen, whole_folder, write_frozen, write_graphs
from fusioncam.manifest import SCORE_GRAPH, Manifest, read_bundle, sha256, write_manifest

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)


def randomised_bundle(bundle: Path, folder: Path, seed: int = 0, last: int | None = None) -> Manifest:
    """Write a copy of a bundle whose weights are shuffled, each tensor within itself, so that its distribution stays.

    Weights are the float tensors of the score graph with at least two dimensions larger than one; biases and the
    factors of normalisations, which have one, stay as they are, and so do constants that only the gradient needs.
    All graphs of the bundle are changed alike.

    Args:
        bundle: The bundle.
        folder: Where to write the copy; an older bundle there is replaced.
        seed: Seed of the shuffling.
        last: Shuffle only so many tensors, those nearest to the logits (cascading randomisation); by default all.

    Returns:
        The copy's manifest; its `tools` say `randomised`.

    Raises:
        BundleError: There is no bundle, or it was changed.
        UsageError: Its weights are integers, or are to be written over themselves.
        OutputError: The copy cannot be written.
    """
    manifest = read_bundle(bundle)
    if bundle.resolve() == folder.resolve():
        raise UsageError(f"the shuffled copy of {bundle} would replace it; choose another folder")
    graphs = {name: ir.load(bundle / name) for name in manifest.files if name.endswith(".onnx")}
    names = [] if manifest.score_precision == "int8" else weights(graphs[SCORE_GRAPH])
    if not names:
        raise UsageError(
            f"the weights of {bundle} are integers, which cannot be shuffled; use a float bundle of its model"
        )
    chosen = set(names if last is None else names[:last])
    for model in graphs.values():
        _shuffle(model, chosen, seed)
    with whole_folder(folder) as new:
        write_graphs(new, graphs)
        if frozen := read_frozen(bundle):
            write_frozen(new, frozen)
        path = os.path.relpath((bundle / manifest.source.path).resolve(), folder.resolve()).replace(os.sep, "/")
        copy = manifest.model_copy(
            update={
                "source": manifest.source.model_copy(update={"path": path}),
                "tools": {**manifest.tools, "randomised": f"seed {seed}, {len(chosen)} of {len(names)} tensors"},
                "files": {name: sha256(new / name) for name in manifest.files},
            }
        )
        write_manifest(new, copy)
    return copy


def weights(model: ir.Model) -> list[str]:
    """Return the names of the weights that a graph uses, those nearest to the logits first."""
    names: dict[str, None] = {}
    for node in reversed(model.graph):
        for value in node.inputs:
            if value is not None and _is_weight(value.const_value):
                names[str(value.name)] = None
    return list(names)


def _is_weight(tensor: ir.TensorProtocol | None) -> TypeGuard[ir.TensorProtocol]:
    return tensor is not None and tensor.dtype in FLOATS and sum(d > 1 for d in tensor.numpy().shape) >= 2


def _shuffle(model: ir.Model, names: set[str], seed: int) -> None:
    """Shuffle in an order that depends on the number of elements alone, so that copies in any type stay copies."""
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if name in names and _is_weight(tensor):
            array = tensor.numpy()
            order = np.random.default_rng([seed, array.size]).permutation(array.size)
            value.const_value = ir.tensor(array.ravel()[order].reshape(array.shape), name=name)
