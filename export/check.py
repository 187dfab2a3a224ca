"""Holding a bundle against its source: equal logits, a gradient that agrees with central differences, little drift."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxruntime import InferenceSession

from fusioncam.errors import BundleError, FusionCamError, ModelError, UsageError, first_line, out_of_memory
from fusioncam.export.drift import Finding, compare_maps, logits_of
from fusioncam.export.endings.outputs import as_source, comparable
from fusioncam.export.masked import Photos, checked_photos
from fusioncam.export.precision import leave_out_rounding, rounding_session
from fusioncam.export.reading import read_model
from fusioncam.export.sessions import open_session, run_session, session
from fusioncam.export.shapes import IS_RANDOM, repeats
from fusioncam.export.single.verify import compare_forms, logits_of_single
from fusioncam.manifest import (
    EXPLAIN_GRAPH,
    HEAD_GRAPH,
    SCORE_GRAPH,
    SINGLE_GRAPH,
    Layer,
    Manifest,
    read_bundle,
    sha256,
)

Array = npt.NDArray[Any]

# Relative to the largest value compared; float16 carries three digits. That of int8 is of the root mean square
# relative to the deviation: twice the worst seen with real models, whose photos patchwork exceeds.
LOGIT_TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "int8": 0.8}
# Of scores in float16 beside a float32 model, as a root mean square: it tells damage. Maps decide what is good enough.
SCORE_TOLERANCE = 0.1
GRADIENT_TOLERANCE = {"float32": 1e-2, "float16": 5e-2}
STEPS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)  # lengths of the differences, relative to the activations
DIRECTIONS = 6
PATCH = 8  # pixels
DRIFT_PHOTOS = 8
ROUNDING = ("QuantizeLinear", "Round")
CLASSES_TRIED = 4  # for a gradient that is not zero
BLUR = 0.1  # noise added to the layer's tensor, relative to its deviation


def check(bundle: Path, source: Path | None = None, photos: Photos | None = None) -> list[Finding]:
    """Re-run the source against its bundle.

    Args:
        bundle: The bundle's folder.
        source: The model it was made from; by default where the manifest says.
        photos: For a bundle whose masked passes are of another precision: gives photos to compare maps on, as for
            `export_model`. The first 8 are looked at; by default a picture of random patches, which shows less.

    Raises:
        BundleError: The folder is no bundle, a file of it is missing or was changed, or they do not belong together.
        UsageError: The source is not where it was, or there are no maps to compare, or no photos.
    """
    manifest = read_bundle(bundle)
    drifts = manifest.score_precision != manifest.precision
    if photos is not None and not drifts:
        raise UsageError("photos show the drift of fp16 and int8 scores, which this bundle has not; leave them out")
    source = source or (bundle / manifest.source.path).resolve()
    if not source.is_file():
        raise UsageError(f"the source model is not at {source}; say where it is with --source")
    changed = Finding("source is the one exported (sha256)", float(sha256(source) != manifest.source.sha256), 0.0)
    with _sound(bundle):
        found = [changed, *compare_logits(bundle, manifest, source)]
        if manifest.gradient:
            found += compare_gradient(bundle, manifest)
            found += compare_forms(bundle, manifest, pictures(manifest, 1)[0])
        if drifts:
            images: Iterable[Array] = pictures(manifest, 1)
            if photos is not None:
                images = islice(
                    checked_photos(photos(manifest.preprocessing), manifest.preprocessing.size), DRIFT_PHOTOS
                )
            found += compare_maps(*_open(bundle, manifest), manifest, images)
        return found


@contextmanager
def _sound(bundle: Path) -> Iterator[None]:
    """Say of graphs that cannot be read or run that the bundle is to blame: here, nothing else is left."""
    try:
        yield
    except (FusionCamError, MemoryError):
        raise
    except Exception as error:  # those of onnx and onnxruntime share no base class
        why = f"the files of {bundle} do not belong together ({first_line(error)}); export the model again"
        raise out_of_memory(error) or BundleError(why) from error


def pictures(manifest: Manifest, count: int) -> Array:
    """Random patchwork pictures, preprocessed: (count, 3, H, W) float32."""
    prep = manifest.preprocessing
    height, width = prep.size
    patches = np.random.default_rng(0).random((count, 3, -(-height // PATCH), -(-width // PATCH)))
    pixels = 255 * patches.repeat(PATCH, axis=2).repeat(PATCH, axis=3)[..., :height, :width]
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (prep.mean, prep.std))
    return np.asarray((pixels * prep.rescale - mean) / std, np.float32)


def source_outputs(manifest: Manifest, source: Path, images: Array, optimize: bool = True) -> Array:
    """What the source itself gives for (N, 3, H, W) float32 pictures, as (N, classes) float64."""
    model = _open_source(manifest, source, optimize)
    wanted = next((i for i in model.get_inputs() if i.name == manifest.source.input), None)
    if wanted is None:
        raise ModelError(f"{source} has no input {manifest.source.input!r}: it is not the bundle's source")
    last = manifest.source.channels_last
    if wanted.shape[1] != 3 if last is None else last:
        images = images.transpose(0, 2, 3, 1)
    images = _of_type(images, wanted.type)
    batch = wanted.shape[0] if wanted.shape and isinstance(wanted.shape[0], int) else 1
    rows = []
    for image in images:
        repeated = np.repeat(image[None], batch, axis=0)
        try:
            rows.append(run_session(model, [manifest.source.output], {wanted.name: repeated})[0].reshape(batch, -1)[0])
        except Exception as error:
            unable = ModelError(f"{source} does not run as the bundle's source did: {first_line(error)}")
            raise out_of_memory(error) or unable from error
    return np.asarray(rows, np.float64)


def _open_source(manifest: Manifest, source: Path, optimize: bool) -> InferenceSession:
    """Open the source; a map from labels to numbers is replaced by the tensor of the numbers."""
    opened = open_session(source, optimize)
    if all(o.type.startswith("tensor") for o in opened.get_outputs() if o.name == manifest.source.output):
        return opened
    return open_session(read_model(source).SerializeToString(), optimize)


def _of_type(images: Array, kind: str) -> Array:
    """Pictures in the type that onnxruntime names so; whole numbers are rounded to, and end where the type does."""
    names = {"float": "float32", "double": "float64"}
    name = kind.removeprefix("tensor(").removesuffix(")")
    dtype = np.dtype(names.get(name, name))
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        images = np.clip(np.rint(images.astype(np.float64)), ends.min, ends.max)
    return images.astype(dtype)


def compare_logits(bundle: Path, manifest: Manifest, source: Path) -> list[Finding]:
    """Every graph against the source, on a batch of three pictures that the source sees one by one.

    Where tensors are quantised, onnxruntime's optimizations are left out: they change sums in their last digit, which
    rounding turns into whole steps.
    """
    images = pictures(manifest, 3)
    optimize = not any(node.op_type in ROUNDING for node in ir.load(bundle / EXPLAIN_GRAPH).graph)
    expected = source_outputs(manifest, source, images, optimize)
    logarithm = manifest.source.logarithm
    if logarithm is None:
        logarithm = (manifest.source.ending or manifest.ending) == "softmax" and bool((expected <= 0).all())
    expected = comparable(expected, manifest.source, logarithm)
    scale = float(np.abs(expected).max()) or 1.0
    findings = []
    explain, score = _open(bundle, manifest, optimize)
    given_by = {
        SCORE_GRAPH: (logits_of(score, images), manifest.score_precision),
        EXPLAIN_GRAPH: (logits_of(explain, images), manifest.precision),
    }
    if manifest.has_head:
        given_by[HEAD_GRAPH] = (_unmasked(bundle, manifest, images, optimize), manifest.precision)
    if manifest.has_single:
        given_by[SINGLE_GRAPH] = (logits_of_single(bundle, images, optimize), manifest.precision)
    again = {SCORE_GRAPH: logits_of(score, images), EXPLAIN_GRAPH: logits_of(explain, images)}
    for name, (logits, precision) in given_by.items():
        if name in again and not repeats(logits, again[name]):
            findings.append(Finding(f"{name} {IS_RANDOM}", 1.0, 0.0))
        if precision == "int8":
            findings.append(_rounded_logits(logits, given_by[EXPLAIN_GRAPH][0]))
            continue
        halved = precision != manifest.precision
        with np.errstate(all="ignore"):  # as in `logits_of`
            sides = [as_source(side, manifest, logarithm) for side in _sides(logits, manifest)]
            errors = [np.abs(s - expected) if s.shape == expected.shape else np.array(np.inf) for s in sides]
            off = max(float(np.sqrt(np.square(e).mean()) if halved else e.max()) for e in errors)
            error = max(off - manifest.source.rounding, 0.0) / scale
        if halved and not np.isfinite(logits).all():
            error = float("nan")  # a sigmoid makes 1 of infinity, and would hide it
        limit = SCORE_TOLERANCE if halved else LOGIT_TOLERANCE[precision]
        findings.append(Finding(f"output of {name} equals the source's", error, limit))
    return findings


def compare_scores(bundle: Path, manifest: Manifest) -> list[Finding]:
    """Compare the maps that scores of another precision make, on a picture of random patches; see `compare_maps`."""
    return compare_maps(*_open(bundle, manifest), manifest, pictures(manifest, 1))


def _sides(logits: Array, manifest: Manifest) -> list[Array]:
    """The logits as the source has them: all of them, or what each of the two that are made of one says of it."""
    return [logits[:, 1:], -logits[:, :1]] if manifest.source.outputs == 1 else [logits]


def _unmasked(bundle: Path, manifest: Manifest, images: Array, optimize: bool) -> Array:
    """The logits (N, classes) of the head under masks of ones."""
    head = open_session(bundle / HEAD_GRAPH, optimize)
    masks = np.ones((2, 1, *manifest.layer.shape[1:]), np.float32)
    return np.concatenate([head.run(["logits"], {"image": x[None], "masks": masks})[0][1:] for x in images])


def _rounded_logits(logits: Array, exact: Array) -> Finding:
    """Logits in int8 against those of the explain graph: a softmax would blow the difference up, or hide it."""
    error = float(np.sqrt(np.square(logits.astype(np.float64) - exact).mean())) / (float(exact.std()) or 1.0)
    return Finding(f"logits of {SCORE_GRAPH} are near those of {EXPLAIN_GRAPH}", error, LOGIT_TOLERANCE["int8"])


def _open(bundle: Path, manifest: Manifest, optimize: bool = True) -> tuple[InferenceSession, InferenceSession]:
    """The explain graph and the score graph; a score graph brought to float16 rounds as it would on a GPU."""
    halved = manifest.score_precision != manifest.precision and manifest.score_precision == "float16"
    try:
        explain = open_session(bundle / EXPLAIN_GRAPH, optimize)
        score = rounding_session(bundle / SCORE_GRAPH) if halved else open_session(bundle / SCORE_GRAPH, optimize)
    except ModelError as error:
        raise BundleError(f"{error}; export the model again") from error
    for graph, name, wanted in ((explain, EXPLAIN_GRAPH, ["image", "class_index"]), (score, SCORE_GRAPH, ["image"])):
        if (inputs := [i.name for i in graph.get_inputs()]) != wanted:
            raise BundleError(f"{bundle / name} takes {inputs} in place of {wanted}; export the model again")
    return explain, score


def compare_gradient(bundle: Path, manifest: Manifest) -> list[Finding]:
    """The gradient against central differences of the part of the graph after the layer.

    Along each of several directions d the derivative g . d is compared with (f(A + t d) - f(A - t d)) / 2t, at the
    step t where they agree best: too small a step drowns in rounding, too large a one crosses kinks. A is not quite
    what a picture gives: there, zeros tie in the windows of a max pool, which has no derivative at such a point.
    Where tensors are quantised the gradient goes straight through, so it is compared with that of the graph in which
    they are not: differences would see a staircase.
    """
    layer = manifest.layer
    head, tensor, quantised = _head(bundle, layer, pictures(manifest, 1))
    rng = np.random.default_rng(1)
    generic = (tensor + BLUR * tensor.astype(np.float64).std() * rng.normal(size=tensor.shape)).astype(tensor.dtype)
    logits, gradient = head(generic)
    top, g = int(logits[0].argmax()), gradient[0].astype(np.float64)
    # Parts of the gradient show an error in it; random directions show what it lacks.
    directions = [g * (rng.random(g.shape) < 0.5) if i % 2 else rng.normal(size=g.shape) for i in range(DIRECTIONS)]
    reference = float(np.linalg.norm(g)) / np.sqrt(g.size)
    axis = layer.roles.index("N")
    found = []
    for d in directions:
        d = d / (np.linalg.norm(d) or 1.0)
        exact, errors = float((g * d).sum()), []
        for step in STEPS:
            t = step * float(np.linalg.norm(generic.astype(np.float64)))
            pair = np.concatenate([generic + _as_tensor(sign * t * d, layer, tensor) for sign in (1, -1)], axis)
            up, down = head(pair.astype(tensor.dtype))[0][:, top].astype(np.float64)
            slope = float(up - down) / (2 * t)
            errors.append(abs(slope - exact) / (max(abs(exact), abs(slope), reference) or 1.0))
        found.append(min(errors))
    # A direction may cross kinks at the shortest step already: one outlier is no proof, a wrong rule shows in most.
    error = max(float(np.median(found[::2])), float(np.median(found[1::2])), max(found) / 10)
    error = error if np.isfinite(g).all() else float("nan")
    what = f"gradient agrees with central differences{' (rounding left out)' if quantised else ''}"
    agreement = Finding(what, error, GRADIENT_TOLERANCE[manifest.precision])
    if agreement.ok and not g.any() and not _matters(bundle, manifest):
        return [Finding("gradient of the layer is not zero for every picture and class", float("inf"), 0.0)]
    return [agreement]


def _matters(bundle: Path, manifest: Manifest) -> bool:
    """Whether the layer has a say: its gradient is not always zero, or it is only as the output is saturated."""
    images = pictures(manifest, 2)
    if any(g.any() for g in gradients(open_session(bundle / EXPLAIN_GRAPH), images, manifest.classes)):
        return True
    head = open_session(bundle / HEAD_GRAPH) if manifest.has_head else None
    return head is not None and minds_masks(head, images, manifest.layer.shape[1:])


def minds_masks(head: InferenceSession, images: Array, grid: tuple[int, int]) -> bool:
    """Return whether the logits of some picture change where the layer is set to zero or negated."""
    masks = np.stack([np.full((1, *grid), factor, np.float32) for factor in (1, 0, -1)])
    return any(np.ptp(head.run(["logits"], {"image": x[None], "masks": masks})[0], axis=0).any() for x in images)


def gradients(explain: InferenceSession, images: Array, classes: int) -> Iterator[Array]:
    """Yield the gradients (N, K, h, w) of pictures (N, 3, H, W), class by class, the top class first."""
    for c in (-1, *range(min(classes, CLASSES_TRIED))):
        yield explain.run(["gradients"], {"image": images, "class_index": np.full(len(images), c, np.int64)})[0]


def _head(bundle: Path, layer: Layer, image: Array) -> tuple[Callable[[Array], list[Array]], Array, bool]:
    """The function from a batch of the layer's tensor to logits and gradients, and that tensor for `image`.

    What goes past the layer stays as it is for `image`. Last comes whether rounding was taken out of it.
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
    given = ir.Value(name="layer", type=tensor.type, shape=tensor.shape)
    tensor.replace_all_uses_with(given)
    graph.inputs.append(given)
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
    """A (K, h, w) direction in the axes of the layer's tensor; extra tokens stay put."""
    _, height, width = layer.shape
    axes = "CHW"
    if "T" in layer.roles:
        tokens = tensor.shape[layer.roles.index("T")]
        after = tokens - layer.offset - height * width
        direction = np.pad(direction.reshape(len(direction), -1), ((0, 0), (layer.offset, after)))
        axes = "CT"
    return np.expand_dims(direction.transpose([axes.index(r) for r in layer.roles if r != "N"]), layer.roles.index("N"))
