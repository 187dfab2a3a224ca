"""Comparison of a provider with the CPU as a graph is opened: some are wrong about some graphs without a word."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from fusioncam.errors import ProviderError
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest, Preprocessing
from fusioncam.runtime.sessions.run import run

# Distance of an output from the CPU's, over its size. float16 costs logits some thousandths, and a gradient, whose
# gates flip, up to .25; a graph that a provider gets wrong has about 1 or more.
LIMITS = {"gradients": 0.5}
LIMIT = 0.1  # of all others
PATCH = 8  # side of the patches of the picture
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def hold_against_cpu(
    session: onnxruntime.InferenceSession,
    open_on_cpu: Callable[[], onnxruntime.InferenceSession],
    path: Path,
    manifest: Manifest,
    sizes: Mapping[str, int],
    names: str,
) -> None:
    """Compare all outputs of a graph for one picture with those of the CPU.

    Args:
        session: The session of the providers.
        open_on_cpu: Opens the same graph on the CPU.
        path: The graph's file.
        manifest: The bundle's.
        sizes: Sizes of the graph's free axes by name; others are taken as 1.
        names: The providers, for the message.

    Raises:
        ProviderError: An output is not the CPU's.
    """
    taken, further = session.get_inputs(), {each.tensor: each for each in manifest.inputs}
    feeds = {t.name: _feed(t, manifest.preprocessing, sizes) for t in taken if t.name not in further}
    feeds |= {t.name: further[t.name].draw(_shape(t, sizes)[0]) for t in taken if t.name in further}
    outputs = [t.name for t in session.get_outputs()]
    on_cpu = run(open_on_cpu(), outputs, feeds)
    for name, ours, theirs in zip(outputs, run(session, outputs, feeds), on_cpu, strict=True):
        apart = distance(ours, theirs)
        if not apart <= LIMITS.get(name, LIMIT):
            raise ProviderError(
                f"{names} gives other {name} for {path.name} than the CPU, apart by {apart:.2g} times their size for a "
                "picture of patches, so maps would be wrong; use the cpu provider, or export the model again if its "
                "bundle is old"
            )


def distance(found: Array, expected: Array) -> float:
    """Return the distance of two arrays over the size of the second: 0 for equal ones, about 1 for unrelated ones."""
    found, expected = (np.nan_to_num(a.astype(np.float64), nan=1e9, posinf=1e9, neginf=-1e9) for a in (found, expected))
    apart, size = np.linalg.norm(found - expected), np.linalg.norm(expected)
    return float(apart / size) if size else float(bool(apart))


def _shape(tensor: onnxruntime.NodeArg, sizes: Mapping[str, int]) -> list[int]:
    return [d if isinstance(d, int) else sizes.get(d, 1) for d in tensor.shape]


def _feed(tensor: onnxruntime.NodeArg, prep: Preprocessing, sizes: Mapping[str, int]) -> Array:
    """Return an input: the same patches for every picture, ones for masks, the first class."""
    shape = _shape(tensor, sizes)
    kind = TYPES[tensor.type]
    if tensor.name != "image":
        return np.full(shape, kind == np.float32, kind)
    channels, *size = shape[1:]
    patches = np.random.default_rng(0).random((*(-(-n // PATCH) for n in size), channels))
    for axis, n in enumerate(size):
        patches = patches.repeat(PATCH, axis).take(range(n), axis)
    if prep.extremes is None:
        return np.broadcast_to(np.moveaxis(4 * patches - 2, -1, 0), shape).astype(kind)
    picture = (255 * patches * prep.rescale - np.array(prep.mean)) / np.array(prep.std)
    return np.broadcast_to(np.moveaxis(picture, -1, 0), shape).astype(kind)
