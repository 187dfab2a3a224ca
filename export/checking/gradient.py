"""The check of a bundle's gradient against central differences of the graph after the layer."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxruntime import InferenceSession

from fusioncam.errors import BundleError
from fusioncam.export.gradient.marks import HELD, marked
from fusioncam.export.precision.drift import Finding
from fusioncam.export.precision.score_graph import leave_out_rounding
from fusioncam.export.random_pictures import pictures
from fusioncam.export.sessions import open_session, session
from fusioncam.export.targets.probes import checked_targets, probe_targets
from fusioncam.forms import GRADIENTS, SCORES, Form, of_level
from fusioncam.further_inputs import FurtherInput, drawn
from fusioncam.kernels.arrays import Array, Size
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, PLACES, Layer, Manifest

GRADIENT_TOLERANCE = {"float32": 1e-2, "float16": 5e-2}
STEPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # lengths of the differences, relative to the activations
LONGER = (1e2, 1e1, 1.0)  # for activations so small that the scores change in their last digits only
DIGITS = 1e-4  # of a score: a smaller change is drowned by float32's rounding
DIRECTIONS = 6
BLUR = 0.1  # noise added to the layer's tensor, relative to its deviation


def compare_gradient(bundle: Path, manifest: Manifest) -> list[Finding]:
    """Compare the gradient of each kind of target with central differences of the part of the graph after the layer.

    A differs a little from the activations of a picture: there, zeros tie in the windows of a max pool, which has no
    derivative at such a point. Where tensors are quantised the gradient goes straight through, so the graph without
    rounding is compared: differences would see a staircase.
    """
    picture = {"image": pictures(manifest, 1), **drawn(manifest.inputs, 1)}
    level = _level_of(bundle, manifest, picture)
    head, layer = _head(bundle, manifest, picture, level), manifest.layers[level]
    rng = np.random.default_rng(1)
    noise = BLUR * head.tensor.astype(np.float64).std() * rng.normal(size=head.tensor.shape)
    generic = (head.tensor + noise).astype(head.tensor.dtype)
    seen = head.run(generic, manifest.form.placeholders(1))
    if head.tensor.min() >= 0 and not np.isfinite(seen.gradients).all():  # roots of what is never negative
        generic = (head.tensor + np.abs(noise)).astype(head.tensor.dtype)
        seen = head.run(generic, manifest.form.placeholders(1))
    findings, zero = [], True
    for title, targets, of_class in checked_targets(manifest.form, seen.output[0]):
        g = head.run(generic, targets).gradients[0].astype(np.float64)
        error, zero = _disagreement(head, layer, generic, of_class, g, rng), zero and not g.any()
        rounded = " (rounding left out)" if head.quantised else ""
        what = f"gradient{title} agrees with central differences{rounded}"
        findings.append(Finding(what, error, GRADIENT_TOLERANCE[manifest.precision]))
    if zero and all(finding.ok for finding in findings) and not _matters(bundle, manifest):
        return [Finding("gradient of the layer is not zero for every picture and class", float("inf"), 0.0)]
    return findings


def _level_of(bundle: Path, manifest: Manifest, picture: Mapping[str, Array]) -> int:
    """Return the number of the level at which the first target that is compared has a gradient."""
    if not manifest.levels:
        return 0
    explain, form = open_session(bundle / EXPLAIN_GRAPH), manifest.form
    (output,) = explain.run([form.output.name], {**picture, **form.placeholders(1)})
    _, targets, _ = next(checked_targets(form, output[0]))
    names = [of_level(GRADIENTS, n) for n in range(len(manifest.layers))]
    return int(np.argmax([np.abs(g).max() for g in explain.run(names, {**picture, **targets})]))


def _disagreement(
    head: "_Head", layer: Layer, generic: Array, targets: Mapping[str, Array], g: Array, rng: np.random.Generator
) -> float:
    """Return how far g, the gradient at `generic`, is from central differences of the score of a target.

    Along each of several directions d the derivative g . d is compared with (s(A + t d) - s(A - t d)) / 2t, at the
    step t where they agree best: too small a step drowns in rounding, too large a one crosses kinks.
    """
    # Parts of the gradient show an error in it; random directions show what it lacks.
    directions = [g * (rng.random(g.shape) < 0.5) if i % 2 else rng.normal(size=g.shape) for i in range(DIRECTIONS)]
    reference = float(np.linalg.norm(g)) / np.sqrt(g.size)
    smallest = []
    for d in directions:
        d = d / (np.linalg.norm(d) or 1.0)
        exact, errors, steps = float((g * d).sum()), [], list(STEPS)
        for step in steps:
            slope, drowned = _slope(head, layer, generic, targets, d, step)
            errors.append(abs(slope - exact) / (max(abs(exact), abs(slope), reference) or 1.0))
            if drowned and step == STEPS[0]:
                steps += LONGER
        smallest.append(float(np.nanmin([*errors, np.inf])))
    # A direction may cross kinks at the shortest step already: one outlier is no proof, a wrong rule shows in most.
    error = max(float(np.median(smallest[::2])), float(np.median(smallest[1::2])), max(smallest) / 10)
    return error if np.isfinite(g).all() else float("nan")


def _slope(
    head: "_Head", layer: Layer, generic: Array, targets: Mapping[str, Array], d: Array, step: float
) -> tuple[float, bool]:
    """Return the central difference of a score along `d`, and whether rounding drowns it."""
    t = step * (float(np.linalg.norm(generic.astype(np.float64))) or 1.0)
    pair = [generic + _as_tensor(sign * t * d, layer, generic) for sign in (1, -1)]
    batch = np.concatenate(pair, layer.roles.index("N")).astype(generic.dtype)
    up, down = head.run(batch, targets).scores.astype(np.float64)
    return float(up - down) / (2 * t), bool(abs(up - down) < DIGITS * max(abs(up), abs(down)))


def _matters(bundle: Path, manifest: Manifest) -> bool:
    """Return whether the layer matters: some gradient is not zero, or all are zero since the output is saturated."""
    images = pictures(manifest, 2)
    explain = open_session(bundle / EXPLAIN_GRAPH)
    if any(g.any() for g in gradients(explain, images, manifest.form, manifest.inputs)):
        return True
    head = open_session(bundle / HEAD_GRAPH) if manifest.has_head else None
    return head is not None and minds_masks(head, images, manifest.form, manifest.layer.grid, manifest.inputs)


def minds_masks(
    head: InferenceSession, images: Array, form: Form, grid: Size, further: Sequence[FurtherInput] = ()
) -> bool:
    """Return whether the scores of some picture change where the layer is set to zero or negated."""
    masks = np.stack([np.full((1, *grid), factor, np.float32) for factor in (1, 0, -1)])
    told = [{}] if not form.scored else [t for t in probe_targets(form, 1) if t.get("class_index", 0) >= 0]
    others = {"masks": masks, **drawn(further, 1)}
    feeds = ({"image": x[None], **others, **targets} for x in images for targets in told)
    return any(np.ptp(head.run(None, each)[0], axis=0).any() for each in feeds)


def gradients(
    explain: InferenceSession, images: Array, form: Form, further: Sequence[FurtherInput] = ()
) -> Iterator[Array]:
    """Yield the gradients (N, K, h, w) of pictures (N, C, H, W), target by target, that of the top class first."""
    feeds = {"image": images, **drawn(further, len(images))}
    for targets in probe_targets(form, len(images)):
        yield explain.run(["gradients"], {**feeds, **targets})[0]


class _Run(NamedTuple):
    """The normal form (N, ...) for a batch of the layer's tensor, the scores (N,) of a target, and their gradients."""

    output: Array
    scores: Array
    gradients: Array


@dataclass(frozen=True)
class _Head:
    """The part of the explain graph after the layer.

    Attributes:
        session: The part; it takes `layer`, targets, and what bypasses the layer.
        tensor: The layer's tensor for a picture.
        others: What bypasses the layer stays as it is for that picture.
        quantised: Whether rounding was left out.
        form: The tensors of targets.
        gradients: The name of its gradients.
        batch: The batch axis of the layer's tensor.
        held: What lets no gradient through, as proposals of boxes, stays as it is for that picture, too.
    """

    session: InferenceSession
    tensor: Array
    others: Mapping[str, Array]
    quantised: bool
    form: Form
    gradients: str
    batch: int
    held: Mapping[str, Array]

    def run(self, layer: Array, targets: Mapping[str, Array]) -> _Run:
        """Run on a batch of the layer's tensor, with one target for all of it."""
        count, inputs = layer.shape[self.batch], {i.name for i in self.session.get_inputs()}
        if self.held and count > 1:
            rows = [self.run(layer.take([n], self.batch), targets) for n in range(count)]
            return _Run(*(np.concatenate(part) for part in zip(*rows, strict=True)))
        feeds = {n: np.repeat(v, count, axis=0) for n, v in {**self.others, **targets}.items() if n in inputs}
        names = [self.form.output.name, *[SCORES] * self.form.scored, self.gradients]
        output, *scores, g = self.session.run(names, {"layer": layer, **feeds, **self.held})
        return _Run(output, scores[0] if scores else output[:, targets["class_index"][0]], g)


def _head(bundle: Path, manifest: Manifest, picture: Mapping[str, Array], level: int) -> _Head:
    """Cut the explain graph at the layer of a level; `picture` holds the inputs of one picture."""
    model, form = ir.external_data.load_to_model(ir.load(bundle / EXPLAIN_GRAPH)), manifest.form
    layer, of_layer = manifest.layers[level], of_level(GRADIENTS, level)
    graph = model.graph
    quantised = leave_out_rounding(graph)
    tensor = next((o for node in graph for o in node.outputs if o.name == layer.name), None)
    if tensor is None:
        raise BundleError(f"{bundle / EXPLAIN_GRAPH} has no tensor {layer.name!r}; export the model again")
    outputs = [o for o in graph.outputs if o.name in (form.output.name, SCORES, of_layer)]
    held = [node.outputs[0] for node in graph if marked(node, HELD)]
    graph.outputs[:] = [tensor, *held]
    value, *held_values = session(model).run(None, {**picture, **form.placeholders(1)})
    graph.outputs[:] = outputs
    for n, each in enumerate(held):
        held_input = ir.Value(name=f"held_{n}", type=each.type, shape=each.shape)
        each.replace_all_uses_with(held_input)
        graph.inputs.append(held_input)
    layer_input = ir.Value(name="layer", type=tensor.type, shape=tensor.shape)
    tensor.replace_all_uses_with(layer_input)
    graph.inputs.append(layer_input)
    passes.RemoveUnusedNodesPass()(model)
    graph.inputs[:] = [i for i in graph.inputs if i.uses()]
    left = {i.name for i in graph.inputs}
    as_held = {name: v for n, v in enumerate(held_values) if (name := f"held_{n}") in left}
    return _Head(session(model), value, picture, quantised, form, of_layer, layer.roles.index("N"), as_held)


def _as_tensor(direction: Array, layer: Layer, tensor: Array) -> Array:
    """Return a (K, h, w) direction in the axes of the layer's tensor; extra tokens stay put."""
    axes = "C" + PLACES[len(layer.grid)]
    if "T" in layer.roles:
        tokens = tensor.shape[layer.roles.index("T")]
        after = tokens - layer.offset - math.prod(layer.grid)
        direction = np.pad(direction.reshape(len(direction), -1), ((0, 0), (layer.offset, after)))
        axes = "CT"
    return np.expand_dims(direction.transpose([axes.index(r) for r in layer.roles if r != "N"]), layer.roles.index("N"))
