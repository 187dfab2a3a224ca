"""The writer of a bundle: its graphs share one file of weights, and the folder appears whole or not at all."""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fusioncam.errors import OutputError, first_line
from fusioncam.export.gradient import Ops, dims, gradients
from fusioncam.export.layers.layout import Layout
from fusioncam.export.targets import Scoring
from fusioncam.export.targets.arrangement import one_hot
from fusioncam.files import KEPT, temporary_folder
from fusioncam.forms import ACTIVATIONS, GRADIENTS, of_level
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import FILES, FROZEN_INPUTS, MANIFEST, WEIGHTS, read_manifest

INLINE_BYTES = 1024  # smaller constants stay inside the graphs
ALIGNMENT = 64
TAKES_A_PAD = ("Conv", "AveragePool", "MaxPool", "Cast")  # into these onnxruntime's Pad_Fusion moves a Pad


def explain_graph(
    model: ir.Model,
    layer_name: str,
    layout: Layout,
    gradient: bool = True,
    scoring: Scoring | None = None,
    levels: Sequence[tuple[str, Layout]] = (),
) -> ir.Model:
    """Return the graph that also gives the activations A and the gradient g = d s / d A, both (N, K, h, w) float32.

    Those of further levels follow as `activations_1`, `gradients_1` and so on.

    s is the score of the target of each picture; that of a class of a vector is its logit. Without the gradient the
    input `class_index` of a vector has no effect. It stays, so that every bundle is run alike.

    Args:
        model: A canonical model; it is left as it is.
        layer_name: Name of the layer's tensor.
        layout: Meaning of its axes.
        gradient: Whether to give the gradient.
        scoring: The scores of its targets; None for a vector.
        levels: Names and layouts of further layers.

    Raises:
        UnsupportedOperatorError: An operator between layer and scores has no gradient rule.
    """
    model = model.clone()
    graph = model.graph
    output = graph.outputs[0]
    named = {o.name: o for node in graph for o in node.outputs}
    layers = [(named[name], of_layer) for name, of_layer in ((layer_name, layout), *levels)]
    scores = scoring.append_rowwise(graph) if scoring is not None and scoring.form.scored else None
    if scores is None:
        class_index = ir.Value(name="class_index", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["N"]))
        graph.inputs.append(class_index)
    op = Ops(graph, "fusioncam")
    found: Mapping[ir.Value, ir.Value] = {}
    if gradient:
        if scores is None:
            top = op.ArgMax(output, axis=1, keepdims=1)
            explained, seed = output, one_hot(op, class_index, top, dims(output)[1] or 0)
        else:
            explained, seed = scores, op.Expand(op.constant(1, np.float32), op.Shape(scores))
        found = gradients(op, {explained: seed}, [layer for layer, _ in layers])
    for n, (layer, of_layer) in enumerate(layers):
        maps = {ACTIVATIONS: layer}
        if gradient:
            maps[GRADIENTS] = found[layer] if layer in found else op.zeros_like(layer)
        for name, value in maps.items():
            extra = _as_map(op, value, layer, of_layer)
            extra.name, extra.dtype = of_level(name, n), ir.DataType.FLOAT
            extra.shape = ir.Shape(["N", _channels(layer, of_layer), *of_layer.grid])
            graph.outputs.append(extra)
    return model


def _channels(layer: ir.Value, layout: Layout) -> int:
    channels = dims(layer)[layout.roles.index("C")]
    assert channels is not None
    return channels


def _as_map(op: Ops, value: ir.Value, layer: ir.Value, layout: Layout) -> ir.Value:
    """Return `value`, which has the axes of `layer`, as float32 (N, K, h, w): only the tokens of the grid."""
    axis, places = layout.roles.find("T"), math.prod(layout.grid)
    if axis >= 0 and layer.shape is not None and layer.shape[axis] != places:
        ends = [layout.offset, layout.offset + places]
        value = op.Slice(value, op.ints(ends[:1]), op.ints(ends[1:]), op.ints([axis]))
    if layout.roles != layout.usual_roles:
        value = op.Transpose(value, perm=[layout.roles.index(r) for r in layout.usual_roles])
    shape = [-1, _channels(layer, layout), *layout.grid]
    if axis >= 0:
        value = op.Reshape(value, op.ints(shape))
    if layer.dtype != ir.DataType.FLOAT:
        return op.Cast(value, to=ir.DataType.FLOAT)
    return op.Reshape(value, op.ints(shape)) if value is layer and _padded(layer) else op.Identity(value)


def _padded(layer: ir.Value) -> bool:
    """Return whether onnxruntime moves a Pad of the layer into the node behind it.

    It forgets that this node reads the layer then: an Identity of the layer takes its place, and the graph does not
    load. A Reshape stays a node of its own.
    """
    pads = (node for node in layer.consumers() if node.op_type == "Pad")
    return any(reader.op_type in TAKES_A_PAD for pad in pads for reader in pad.outputs[0].consumers())


class Lender(NamedTuple):
    """A bundle whose weights another one shares.

    Attributes:
        folder: Its folder.
        twin: A copy of its weights, of which a link is made where the file system allows it; None for a new copy. Its
            own file gets no links: onnx does not read files of several names.
    """

    folder: Path
    twin: Path | None = None


def write_graphs(folder: Path, graphs: dict[str, ir.Model], lender: Lender | None = None) -> None:
    """Write the graphs, by file name, and the weights they share into `folder`.

    Args:
        folder: The folder.
        graphs: The graphs.
        lender: A bundle whose weights they share; constants that it lacks stay inside the graphs.
    """
    places: dict[bytes, int] = {} if lender is None else _borrow(folder, lender)
    end = 0
    with nullcontext() if lender is not None else (folder / WEIGHTS).open("wb") as file:
        for model in graphs.values():
            for name, value in list(model.graph.initializers.items()):
                tensor = value.const_value
                assert tensor is not None
                data = tensor.tobytes()
                if len(data) < INLINE_BYTES or tensor.dtype == ir.DataType.STRING:
                    continue
                key = hashlib.sha256(data).digest()
                if key not in places:
                    if file is None:
                        continue
                    file.write(b"\0" * (-end % ALIGNMENT))
                    places[key] = end = end + -end % ALIGNMENT
                    end += file.write(data)
                shape = ir.Shape(tensor.numpy().shape)
                value.const_value = ir.ExternalTensor(
                    WEIGHTS, places[key], len(data), tensor.dtype, shape=shape, name=name, base_dir=folder
                )
    for file_name, model in graphs.items():
        ir.save(model, folder / file_name)


def _borrow(folder: Path, lender: Lender) -> dict[bytes, int]:
    """Put the weights of a bundle into a folder, and return their places by sha256."""
    try:
        (folder / WEIGHTS).hardlink_to(lender.twin or "")
    except OSError:  # no twin, or one on another file system
        shutil.copyfile(lender.folder / WEIGHTS, folder / WEIGHTS)
    names = read_manifest(lender.folder / MANIFEST).files
    graphs = (ir.load(lender.folder / name).graph for name in names if name.endswith(".onnx"))
    tensors = (value.const_value for graph in graphs for value in graph.initializers.values())
    lent = (t for t in tensors if isinstance(t, ir.ExternalTensor) and t.location == WEIGHTS)
    return {hashlib.sha256(tensor.tobytes()).digest(): tensor.offset or 0 for tensor in lent}


def write_frozen(folder: Path, values: Mapping[str, Array]) -> None:
    """Write the values of inputs that the export froze, for later comparisons with the source; see `read_frozen`."""
    texts = {name: array.astype(str) if array.dtype.kind == "O" else array for name, array in values.items()}
    np.savez(folder / FROZEN_INPUTS, allow_pickle=False, **texts)


def read_frozen(folder: Path) -> dict[str, Array]:
    """Return the values of the source's inputs that a bundle froze, by name; none where it froze none."""
    path = folder / FROZEN_INPUTS
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as held:
        return {name: held[name].astype(object) if held[name].dtype.kind == "U" else held[name] for name in held.files}


@contextmanager
def whole_folder(target: Path, source: Path | None = None) -> Iterator[Path]:
    """Yield a folder that becomes `target` at the end, and vanishes after an error.

    An older bundle at `target` is replaced; anything else there is left alone. A link stays; its target is
    replaced.

    Args:
        target: The folder to make.
        source: A file that must not vanish with an older bundle.

    Raises:
        OutputError: `target` cannot be written, or holds something that is no bundle.
    """
    target = _real(target)
    try:
        _refuse_to_replace(target, source)
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(target.parent) as temporary:
            yield temporary
            _refuse_to_replace(target, source)  # the export took its time
            _put(temporary, target)
    except OSError as error:
        raise OutputError(f"cannot write {target} ({error.strerror or error}); choose another place with -o") from error


def _real(target: Path) -> Path:
    try:
        return target.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, links in a circle, a null byte
        raise OutputError(f"{str(target)!r} names no folder ({first_line(error)}); choose another with -o") from error


def _refuse_to_replace(target: Path, source: Path | None) -> None:
    """Make sure that nothing but a bundle is replaced.

    Raises:
        OutputError: `target` is a file, or a folder with something else in it.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MANIFEST).is_file():
        raise OutputError(f"{target} is there already and is no bundle; choose another name with -o")
    if source is not None and target in source.resolve().parents:
        raise OutputError(f"{target} holds the model itself; choose another name with -o")
    strange = sorted(p.name for p in target.iterdir() if p.name not in FILES or not p.is_file())
    if strange:
        names = f"{strange[0]!r}{' and others' if len(strange) > 1 else ''}"
        raise OutputError(f"{target} holds files that are not a bundle's ({names}); choose another name with -o")
    try:
        manifest = json.loads((target / MANIFEST).read_bytes())
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or not manifest.keys() >= {"schema_version", "layer", "files"}:
        raise OutputError(f"{target} is there already and is no bundle; choose another name with -o")


def _put(new: Path, target: Path) -> None:
    """Move `new` to `target`; the older folder is deleted only after that."""
    with temporary_folder(target.parent, KEPT) as aside:
        if target.exists():
            target.rename(aside / target.name)
        new.rename(target)
