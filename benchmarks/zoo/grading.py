"""The fate of an ONNX file: whether onnxruntime runs it, its bundle, its default layer, and the gradient there."""

import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from fusioncam.errors import FusionCamError, first_line
from fusioncam.export import check, export_model
from fusioncam.export.checking.gradient import gradients
from fusioncam.export.gradient import ancestors
from fusioncam.export.operators import WEIGHTED
from fusioncam.export.random_pictures import pictures
from fusioncam.further_inputs import drawn
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import EXPLAIN_GRAPH, SCORE_GRAPH, Manifest

Row = dict[str, Any]
Oracle = Callable[[Manifest, Array, Mapping[str, Array], Mapping[str, Array]], float | None]


def runs(path: Path) -> str | None:
    """Return why onnxruntime does not run a file on random numbers, or None."""
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        rng, feeds = np.random.default_rng(0), {}
        for value in session.get_inputs():
            shape = [d if isinstance(d, int) else 1 for d in value.shape]
            feeds[value.name] = rng.random(shape).astype(np.float16 if "float16" in value.type else np.float32)
        session.run(None, feeds)
    except Exception as error:  # onnxruntime has no base class of its own
        return first_line(error)
    return None


def grade(path: Path, asked: Mapping[str, Any], oracle: Oracle | None = None) -> Row:
    """Export a file, check the bundle, and describe its default layer.

    Args:
        path: The file.
        asked: Options of the export.
        oracle: Returns how far the gradient of a picture is from another; see `autograd.Oracle`.

    Returns:
        `runs` is false with the reason; else `refused` (one line) or `fault` (an exception of Python), or the findings.
    """
    if (why := runs(path)) is not None:
        return {"runs": False, "why": why}
    bundle, begin = path.with_suffix(".fcam"), time.perf_counter()
    row: Row = {"runs": True}
    try:
        manifest = export_model(path, bundle, **{"preprocessing": "unit", **asked})
        row["seconds"] = round(time.perf_counter() - begin, 2)
        row |= _of_layer(bundle, manifest, oracle)
        begin = time.perf_counter()
        failed = [f"{f.what}: {f.error:.1e}" for f in check(bundle) if not f.ok]
        row |= {"check": not failed, "check_seconds": round(time.perf_counter() - begin, 2)}
        row |= {"failed": failed} if failed else {}
    except FusionCamError as error:
        row["refused"] = str(error)
    except Exception as error:  # a fault of ours
        frame = traceback.extract_tb(error.__traceback__)[-1]
        row["fault"] = f"{type(error).__name__}: {first_line(error)} ({Path(frame.filename).name}:{frame.lineno})"
    return row


def good(row: Row) -> bool:
    """Return whether a model exports, passes the check, and has a default layer whose gradient is not zero."""
    return bool(row.get("check") and row.get("gradient_share", 0) > 0)


def _of_layer(bundle: Path, manifest: Manifest, oracle: Oracle | None) -> Row:
    layer = manifest.layer
    graphs = {name: ir.load(bundle / name).graph for name in (EXPLAIN_GRAPH, SCORE_GRAPH)}
    session = onnxruntime.InferenceSession(bundle / EXPLAIN_GRAPH, providers=["CPUExecutionProvider"])
    images, share = pictures(manifest, 2), 0.0
    for g in gradients(session, images, manifest.form, manifest.inputs):
        share = max(share, float((g != 0).mean()))
    row: Row = {
        "layer": layer.name, "shape": list(layer.shape), "axes": layer.roles, "offset": layer.offset,
        "depth": _depth(graphs[EXPLAIN_GRAPH], layer.name), "bypassed": layer.bypassed, "early": layer.early,
        "task": manifest.task, "nodes": len(list(graphs[EXPLAIN_GRAPH])) - len(list(graphs[SCORE_GRAPH])),
        "gradient_share": round(share, 4),
    }  # fmt: skip
    if oracle is not None:
        targets = _target(manifest)
        feeds = {"image": images[:1], **targets, **drawn(manifest.inputs, 1)}
        names = ["activations", "gradients"]
        run = dict(zip(names, session.run(names, feeds), strict=True))
        error = oracle(manifest, images[:1], targets, run)
        row["autograd_error"] = None if error is None else float(f"{error:.1e}")
        row["flat"] = bool(np.ptp(run["activations"][0].reshape(layer.shape[0], -1), axis=1).max() == 0)
    return row


def _depth(graph: ir.Graph, name: str) -> float:
    """Return the share of the weighted operators that come before a layer of the explain graph."""
    values = {str(o.name): o for node in graph for o in node.outputs}
    output = next(o for o in graph.outputs if o.name not in ("activations", "gradients", "scores", "confidences"))
    counts = [sum(n.op_type in WEIGHTED for n in ancestors(v)) for v in (values[name], output)]
    return round(counts[0] / max(counts[1], 1), 3)


def _target(manifest: Manifest) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    if manifest.task == "embed":
        return {"reference": rng.normal(size=(1, manifest.classes)).astype(np.float32)}
    targets = manifest.form.placeholders(1)
    targets["class_index"] = np.array([min(2, manifest.classes - 1)])
    if "region" in targets:
        targets["region"] = rng.random(targets["region"].shape).astype(np.float32)
    return targets
