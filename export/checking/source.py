"""The source of a bundle, run as its bundle's graphs are."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnxruntime import InferenceSession

from fusioncam.detector import Detector
from fusioncam.errors import ModelError
from fusioncam.export.readers.boxes import (
    CUT_READERS,
    Coding,
    join_arrays,
    joint_of,
    named_reader,
    read_by_graph,
    read_raw,
)
from fusioncam.export.reading.file import read_model
from fusioncam.export.reading.nodes import all_nodes
from fusioncam.export.reading.shapes import element_type
from fusioncam.export.sessions import failing_as, open_session, run_session
from fusioncam.forms import SIDES
from fusioncam.further_inputs import drawn
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import READER_GRAPH, Manifest


def source_outputs(
    manifest: Manifest,
    source: Path,
    images: Array,
    optimize: bool = True,
    frozen: Mapping[str, Array] | None = None,
    own: ir.Model | None = None,
    prototypes: bool = False,
) -> Array:
    """Return the outputs of the source for (N, C, H, W) float32 pictures, each seen by itself.

    Those of a vector are (N, classes), outputs that a reader takes have the axes of the source; all are float64.

    Args:
        manifest: The bundle's.
        source: The model.
        images: The pictures. Further inputs get the rows of `drawn`.
        optimize: Whether onnxruntime may change the graph.
        frozen: Values of inputs that the bundle has frozen, by name.
        own: The graph of a user's own reader, see `read_own`.
        prototypes: Whether the prototypes of instance masks are meant.
    """
    return source_runner(manifest, source, optimize, frozen, own, prototypes)(images)


def source_runner(
    manifest: Manifest,
    source: Path,
    optimize: bool = True,
    frozen: Mapping[str, Array] | None = None,
    own: ir.Model | None = None,
    prototypes: bool = False,
) -> Callable[[Array], Array]:
    """Open the source; return the function that gives its outputs for pictures, see `source_outputs`."""
    of_masks = [manifest.source.prototypes] if prototypes and manifest.source.prototypes is not None else []
    names = of_masks or manifest.source.tensors or (manifest.source.output,)
    model = _open_source(manifest, source, optimize, names)
    image_input = next((i for i in model.get_inputs() if i.name == manifest.source.input), None)
    if image_input is None:
        raise ModelError(f"{source} has no input {manifest.source.input!r}: it is not the bundle's source")
    last = manifest.source.channels_last
    turned = image_input.shape[1] != manifest.preprocessing.channels if last is None else last
    alone = manifest.source.channel_axis == 0
    axis = -1 if turned else manifest.source.channel_axis or 1
    batch = image_input.shape[0] if image_input.shape and isinstance(image_input.shape[0], int) and not alone else 1
    read = manifest.form.scored or manifest.source.class_vectors
    boxes = manifest.detector is not None and not of_masks

    def outputs_of(images: Array) -> Array:
        images = _of_type(np.moveaxis(images, 1, axis), image_input.type)
        others, rows = drawn(manifest.inputs, len(images)), []
        for n, image in enumerate(images):
            of_picture = {image_input.name: image, **{each.name: others[each.tensor][n] for each in manifest.inputs}}
            feeds = {name: np.repeat(row[None], batch, axis=0) for name, row in of_picture.items()}
            if alone:
                feeds[image_input.name] = image
            with failing_as(
                lambda why: ModelError(f"{source} does not run as the bundle's source did: {why}"), passing=()
            ):
                outputs = run_session(model, names, {**feeds, **(frozen or {})})
                found = _boxes(manifest, outputs, batch, own) if boxes else _row(outputs[0], batch, read)
                rows.append(found)
        return np.asarray(rows, np.float64)

    return outputs_of


def _row(output: Array, batch: int, read: bool) -> Array:
    return np.asarray(output[0] if read else output.reshape(batch, -1)[0])


def read_own(bundle: Path) -> ir.Model | None:
    """Return the graph of the user's own reader of a bundle; None where it has none."""
    path = bundle / READER_GRAPH
    return ir.external_data.load_to_model(ir.load(path)) if path.is_file() else None


def _boxes(manifest: Manifest, outputs: Sequence[Array], batch: int, own: ir.Model | None) -> Array:
    """Return boxes, scores of classes and extras (A, columns) of the first picture by a detector's own tensors."""
    detector, size = manifest.detector, manifest.preprocessing.size
    assert detector is not None
    valid = [o.ravel() for o in outputs if o.dtype == bool]
    raw, coding = _coded(manifest, [o for o in outputs if o.dtype != bool], batch, own)
    coding = replace(coding, extra=detector.extra, keypoint=detector.keypoint)
    read = read_raw([o[:1] for o in raw], coding, detector.numbers(manifest.classes), size)[0]
    return np.asarray(_filled_up(read, detector, valid) if valid or len(read) < detector.anchors else read)


def _filled_up(boxes: Array, detector: Detector, valid: Sequence[Array]) -> Array:
    """Return boxes (A, columns) of a picture in which a first stage proposes less; others hold no object.

    Neither do those for which a condition does not hold.
    """
    found = np.zeros((detector.anchors, boxes.shape[1]))
    if detector.background is not None:
        found[:, SIDES + detector.background] = 1
    rows = np.flatnonzero(np.all([np.ones(len(boxes), bool), *valid], axis=0))
    found[rows] = boxes[rows]
    return found


def _coded(
    manifest: Manifest, outputs: Sequence[Array], batch: int, own: ir.Model | None
) -> tuple[Sequence[Array], Coding]:
    """Return the tensors that a reader reads, and what they mean."""
    if own is not None:
        return read_by_graph(own, dict(zip(manifest.source.tensors, outputs, strict=True)))
    reader = named_reader(manifest.reader)
    if reader not in CUT_READERS:
        return outputs, reader.coding
    detector = manifest.detector
    assert detector is not None
    background = "none" if detector.background is None else "last" if detector.background else "first"
    joint = joint_of([o.shape for o in outputs], batch, detector.extras > 0, background)
    if joint is None:
        raise ModelError(f"the source gives {', '.join(str(o.shape) for o in outputs)} above its search")
    return [join_arrays(outputs, joint)], reader.coding


def _open_source(manifest: Manifest, source: Path, optimize: bool, tensors: Sequence[str]) -> InferenceSession:
    """Open the source as it is, or as it was read: with tensors in place of maps, in types that can be run."""
    names, bypassed = {*tensors}, manifest.source.bypassed
    try:
        opened = open_exact(source, optimize)
    except ModelError:
        opened = None
    if opened and not bypassed and names <= {o.name for o in opened.get_outputs() if o.type.startswith("tensor")}:
        return opened
    proto = read_model(source)
    if opened and not names <= {name for node in proto.graph.node for name in node.output}:
        return opened  # another model, which the caller tells by its input
    if bypassed or names - {o.name for o in proto.graph.output}:
        _end_in(proto.graph, names, dict(bypassed))
    return open_exact(proto.SerializeToString(), optimize)


def _end_in(graph: onnx.GraphProto, names: Collection[str], bypassed: Mapping[str, str]) -> None:
    """Let a graph end in some tensors, and what reads a tensor that is bypassed read the other."""
    makers = {name: node for node in graph.node for name in node.output}
    needed, todo = set[str](), [*names]
    while todo:
        name = todo.pop()
        if name in makers and name not in needed:
            needed.update(makers[name].output)
            for node in all_nodes([makers[name]]):
                node.input[:] = [bypassed.get(n, n) for n in node.input]
                todo += node.input
    for n in reversed(range(len(graph.node))):
        if needed.isdisjoint(graph.node[n].output):
            del graph.node[n]
    del graph.value_info[:], graph.output[:]
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(needed.intersection(names)))


def open_exact(model: bytes | Path, optimize: bool) -> InferenceSession:
    """Open a session; without optimizations on one thread, so that sums are equal to the last digit."""
    return open_session(model, optimize, threads=0 if optimize else 1)


def _of_type(images: Array, kind: str) -> Array:
    """Return pictures in a type of onnxruntime; for whole numbers they are rounded and clipped to its range."""
    dtype = np.dtype(element_type(kind).numpy())
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        images = np.clip(np.rint(images.astype(np.float64)), ends.min, ends.max)
    return images.astype(dtype)
