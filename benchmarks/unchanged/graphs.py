"""The single graph and its unrolled form, run by onnxruntime alone."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from unchanged.digests import Digests
from unchanged.subjects import THREADS, Bundle, Subjects, prepared
from unchanged.tree import lookup

SESSION = onnxruntime.InferenceSession  # as it is now: the part `triton` puts something else in its place
MAPS = ("fusion_cam", "grad_cam", "score_cam")


def open_graph(path: Path) -> Any:
    """Return a session on the CPU with a fixed number of threads."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = THREADS
    return SESSION(str(path), settings, providers=["CPUExecutionProvider"])


def run(digests: Digests, subjects: Subjects) -> None:
    """Add the outputs of every bundle's graphs; photos in turns, as a run passes through all channels."""
    for turn, bundle in enumerate(subjects.bundles.values()):
        photo = subjects.photos[turn % len(subjects.photos)]
        with digests.part(f"graphs/{bundle.name}"):
            manifest = lookup("read_bundle")(bundle.folder)
            _add(digests, f"graphs/{bundle.name}", bundle, prepared(photo, manifest.preprocessing))


def _add(digests: Digests, name: str, bundle: Bundle, x: np.ndarray) -> None:
    subject = {"image": x[None], "class_index": np.array([-1], np.int64)}
    single = open_graph(bundle.folder / "fusioncam.onnx")
    outputs = [o.name for o in single.get_outputs()]
    digests.add(f"{name}/single/metadata", dict(single.get_modelmeta().custom_metadata_map))
    for output, found in zip(outputs, single.run(None, subject), strict=True):
        digests.add(f"{name}/single/{output}", found)
    explain, chunk, fuse = (open_graph(bundle.folder / f"{part}.onnx") for part in ("explain", "chunk", "fuse"))
    names = [o.name for o in explain.get_outputs()]
    seen = dict(zip(names, explain.run(None, subject), strict=True))
    for output, found in seen.items():
        digests.add(f"{name}/explain/{output}", found)
    (masks,) = next(i.shape for i in chunk.get_inputs() if i.name == "channels")
    channels = seen["activations"].shape[1]
    scores = np.empty(channels, np.float32)
    for start in range(0, channels, masks):
        some = np.minimum(np.arange(start, start + masks), channels - 1)
        feeds = {**subject, "logits": seen["logits"], "activations": seen["activations"], "channels": some}
        scores[some] = chunk.run(["scores"], feeds)[0]
    digests.add(f"{name}/unrolled/scores", scores)
    for method, found in zip(MAPS, fuse.run(MAPS, {**subject, **seen, "scores": scores}), strict=True):
        digests.add(f"{name}/unrolled/{method}", found)
