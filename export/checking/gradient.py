"""The check of a bundle's gradient against central differences of the graph after the layer."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxruntime import InferenceSession

from fusioncam.errors import BundleError
from fusioncam.export.precision.drift import Finding
from fusioncam.export.precision.score_graph import leave_out_rounding
from fusioncam.export.random_pictures import pictures
from fusioncam.export.sessions import open_session, session
from fusioncam.kernels.arrays import Array, Size
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, PLACES, Layer, Manifest

GRADIENT_TOLERANCE = {"float32": 1e-2, "float16": 5e-2}
STEPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # lengths of the differences, relative to the activations
DIRECTIONS = 6
CLASSES_TRIED = 4  # for a gradient that is not zero
BLUR = 0.1  # noise added to the layer's tensor, relative to its deviation


def compare_gradient(bundle: Path, manifest: Manifest) -> list[Finding]:
    """Compare the gradient with central differences of the part of the graph after the layer.

    Along each of several directions d the derivative g . d is compared with (f(A + t d) - f(A - t d)) / 2t, at the
    step t where they agree best: too small a step drowns in rounding, too large a one crosses kinks. A differs a little
    from the activations of a picture: there, zeros tie in the windows of a max pool, which has no derivative at such a
    point. Where tensors are quantised the gradient goes straight through, so the graph without rounding is compared:
    differences would see a staircase.
    """
    layer = manifest.layer
    head, tensor, quantised = _head(bundle, layer, pictures(manifest, 1))
    rng = np.random.default_rng(1)
    noise = BLUR * tensor.astype(np.float64).std() * rng.normal(size=tensor.shape)
    generic = (tensor + noise).astype(tensor.dtype)
    logits, gradient = head(generic)
    if tensor.min() >= 0 and not np.isfinite(gradient).all():  # roots of what is never negative
        generic = (tensor + np.abs(noise)).astype(tensor.dtype)
        logits, gradient = head(generic)
    top, g = int(logits[0].argmax()), gradient[0].astype(np.float64)
    # Parts of the gradient show an error in it; random directions show what it lacks.
    directions = [g * (rng.random(g.shape) < 0.5) if i % 2 else rng.normal(size=g.shape) for i in range(DIRECTIONS)]
    reference = float(np.linalg.norm(g)) / np.sqrt(g.size)
    axis = layer.roles.index("N")
    smallest = []
    for d in directions:
        d = d / (np.linalg.norm(d) or 1.0)
        exact, errors = float((g * d).sum()), []
        for step in STEPS:
            t = step * (float(np.linalg.norm(generic.astype(np.float64))) or 1.0)
            pair = np.concatenate([generic + _as_tensor(sign * t * d, layer, tensor) for sign in (1, -1)], axis)
            up, down = head(pair.astype(tensor.dtype))[0][:, top].astype(np.float64)
            slope = float(up - down) / (2 * t)
            errors.append(abs(slope - exact) / (max(abs(exact), abs(slope), reference) or 1.0))
        smallest.append(float(np.nanmin([*errors, np.inf])))
    # A direction may cross kinks at the shortest step already: one outlier is no proof, a wrong rule shows in most.
    error = max(float(np.median(smallest[::2])), float(np.median(smallest[1::2])), max(smallest) / 10)
    error = error if np.isfinite(g).all() else float("nan")
    what = f"gradient agrees with central differences{' (rounding left out)' if quantised else ''}"
    agreement = Finding(what, error, GRADIENT_TOLERANCE[manifest.precision])
    if agreement.ok and not g.any() and not _matters(bundle, manifest):
        return [Finding("gradient of the layer is not zero for every picture and class", float("inf"), 0.0)]
    return [agreement]


def _matters(bundle: Path, manifest: Manifest) -> bool:
    """Return whether the layer matters: some gradient is not zero, or all are zero since the output is saturated."""
    images = pictures(manifest, 2)
    if any(g.any() for g in gradients(open_session(bundle / EXPLAIN_GRAPH), images, manifest.classes)):
        return True
    head = open_session(bundle / HEAD_GRAPH) if manifest.has_head else None
    return head is not None and minds_masks(head, images, manifest.layer.grid)


def minds_masks(head: InferenceSession, images: Array, grid: Size) -> bool:
    """Return whether the logits of some picture change where the layer is set to zero or negated."""
    masks = np.stack([np.full((1, *grid), factor, np.float32) for factor in (1, 0, -1)])
    return any(np.ptp(head.run(["logits"], {"image": x[None], "masks": masks})[0], axis=0).any() for x in images)


def gradients(explain: InferenceSession, images: Array, classes: int) -> Iterator[Array]:
    """Yield the gradients (N, K, h, w) of pictures (N, C, H, W), class by class, the top class first."""
    for c in (-1, *range(min(classes, CLASSES_TRIED))):
        yield explain.run(["gradients"], {"image": images, "class_index": np.full(len(images), c, np.int64)})[0]


def _head(bundle: Path, layer: Layer, image: Array) -> tuple[Callable[[Array], list[Array]], Array, bool]:
    """Return the function from a batch of the layer's tensor to logits and gradients, and that tensor for `image`.

    Tensors that bypass the layer stay as they are for `image`. The last result tells whether rounding was left out.
    """
    model = ir.external_data.load_to_model(ir.load(bundle / EXPLAIN_GRAPH))
    graph = model.graph
    quantised = leave_out_rounding(graph)
    tensor = next((o for node in graph for o in node.outputs if o.name == layer.name), None)
    if tensor is None:
        raise BundleError(f"{bundle / EXPLAIN_GRAPH} has no tensor {layer.name!r}; export the model again")
    outputs = [o for o in graph.outputs if o.name in ("logits", "gradients")]
    graph.outputs[:] = [tensor]
    feeds: dict[str, Array] = {"image": image, "class_index": np.full(1, -1, np.int64)}
    value = np.asarray(session(model).run(None, feeds)[0])
    graph.outputs[:] = outputs
    layer_input = ir.Value(name="layer", type=tensor.type, shape=tensor.shape)
    tensor.replace_all_uses_with(layer_input)
    graph.inputs.append(layer_input)
    passes.RemoveUnusedNodesPass()(model)
    graph.inputs[:] = [i for i in graph.inputs if i.uses()]
    head = session(model)
    needed = [i.name for i in head.get_inputs() if i.name in feeds]

    def run(batch: Array) -> list[Array]:
        images = batch.shape[layer.roles.index("N")]
        others = {name: np.repeat(feeds[name], images, axis=0) for name in needed}
        return list(head.run(["logits", "gradients"], {"layer": batch, **others}))

    return run, value, quantised


def _as_tensor(direction: Array, layer: Layer, tensor: Array) -> Array:
    """Return a (K, h, w) direction in the axes of the layer's tensor; extra tokens stay put."""
    axes = "C" + PLACES[len(layer.grid)]
    if "T" in layer.roles:
        tokens = tensor.shape[layer.roles.index("T")]
        after = tokens - layer.offset - math.prod(layer.grid)
        direction = np.pad(direction.reshape(len(direction), -1), ((0, 0), (layer.offset, after)))
        axes = "CT"
    return np.expand_dims(direction.transpose([axes.index(r) for r in layer.roles if r != "N"]), layer.roles.index("N"))
