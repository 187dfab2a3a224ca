"""The type of the score graph; float16 takes half the bytes, and is several times faster on float16 hardware."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxruntime import InferenceSession

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.gradient import CARRY_NO_GRADIENT, Ops, reads
from fusioncam.export.gradient.marks import STRAIGHT, marked
from fusioncam.export.model import CanonicalModel
from fusioncam.export.precision.drift import EXACT, Finding
from fusioncam.export.precision.quantise import Batches, Range, in_int8
from fusioncam.export.reading.further_inputs import further_inputs
from fusioncam.export.reading.shapes import QUANTISERS
from fusioncam.export.sessions import failing_as, quiet, session
from fusioncam.manifest import ScorePrecision

PRECISIONS = ("fp32", "fp16", "int8")
SCALES = 2  # among the inputs of Resize
UNROUNDED = {*CARRY_NO_GRADIENT, ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE}
INFINITE = 1e30  # masks and bounds at least this large stand for infinity
REMEDY = "export it without --precision fp16"


def score_graph(
    canonical: CanonicalModel,
    precision: str | None,
    batches: Batches | None = None,
    pixels: Range | None = (0.0, 255.0),
    symmetric: bool = False,
) -> tuple[ir.Model, ScorePrecision]:
    """Return the graph for the masked passes, and its type.

    Of a vector it gives `logits` (N, classes). Of maps or an embedding it takes T targets beside the pictures, and
    gives their `scores` and `confidences`, both (N, T): the normal form is made once for all targets.

    Args:
        canonical: The model; it is left as it is.
        precision: `fp16` for a graph whose `image` (N, C, H, W) is float16 and whose outputs are float32,
            `int8` for one that takes and gives float32 and multiplies in 8 bits, `fp32` for that of a float32 model,
            None for the model's own. The graph of a float16 model is its own.
        batches: For `int8`: called, gives the pictures to calibrate on, as batches (B, C, H, W).
        pixels: For `int8`: least and greatest value of `image`; None where only the batches tell them.
        symmetric: For `int8`: whether all zero points are zero, see `in_int8`.

    Raises:
        UsageError: There is no such precision, the model cannot have it, or `batches` does not fit it.
        ModelError: An operator of the model does not take float16, or the model cannot be quantised.
    """
    if precision is not None and precision not in PRECISIONS:
        raise UsageError(f"no precision {precision!r}; use {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")
    if precision != "int8" and batches is not None:
        raise UsageError("photos to calibrate on are for int8 only; leave --calibrate out, or add --precision int8")
    if precision != "int8" and symmetric:
        raise UsageError("symmetric scores are for int8 only; leave --symmetric out, or add --precision int8")
    if precision == "int8" and batches is None:
        raise UsageError("int8 needs photos to calibrate on, like those to be explained; add --calibrate FOLDER")
    own = canonical.precision
    if precision == "fp32" and own == "float16":
        raise UsageError("the model is float16, and float32 cannot restore its digits; export its float32 source")
    if precision in (None, "fp32") or (precision == "fp16" and own == "float16"):
        return _scored(canonical, canonical.model), own
    if own == "float16" or not _is_float32(canonical.model):
        name, other = ("int8", "quantised, float16") if precision == "int8" else ("float16", "quantised")
        remedy = f"export it without --precision {precision}"
        raise UsageError(f"only a float32 model can be brought to {name}, this one is {other} or float64; {remedy}")
    if batches is not None:
        return _scored(canonical, in_int8(canonical.model, batches, pixels, symmetric)), "int8"
    return _scored(canonical, _in_float16(canonical.model)), "float16"


def _scored(canonical: CanonicalModel, model: ir.Model) -> ir.Model:
    """Return the graph of the normal form, in any type, with the scores of targets in its place; a vector stays."""
    if not canonical.form.scored:
        return model
    model = model.clone()
    canonical.scoring.append_crosswise(model.graph)
    return model


def _is_float32(model: ir.Model) -> bool:
    quantised = any(node.op_type in QUANTISERS for node in model.graph)
    return not quantised and all(v.dtype != ir.DataType.DOUBLE for v in model.graph.initializers.values())


def _in_float16(model: ir.Model) -> ir.Model:
    model = model.clone()
    _separate_scales(model.graph)
    with failing_as(lambda why: ModelError(f"the model cannot be brought to float16: {why}; {REMEDY}"), passing=()):
        proto = ir.to_proto(model)
        # The converter would take the listed type of a constant for its type, and change it whether it changes the
        # constant or not.
        constants = {i.name for i in proto.graph.initializer}
        listed = [v for v in proto.graph.value_info if v.name not in constants]
        del proto.graph.value_info[:]
        proto.graph.value_info.extend(listed)
        with quiet():
            # Nothing is held back in float32: Min, Max and TopK, which the library would hold back, take float16 at the
            # opset of a canonical model, and where two of them share an input it would name two casts alike.
            kept = [str(model.graph.outputs[0].name), *(each.tensor for each in further_inputs(model))]
            proto = _converter().convert_float_to_float16(
                proto, keep_io_types=kept, disable_shape_infer=True, op_block_list=[]
            )
        converted: ir.Model = ir.from_proto(proto)
        session(converted, optimize=False)
    return converted


def _separate_scales(graph: ir.Graph) -> None:
    """Give every Resize scales of its own: they stay float32, and must not be rounded with what else reads them."""
    op = Ops(graph, "precision")
    for node in graph:
        scales = node.inputs[SCALES] if node.op_type == "Resize" and len(node.inputs) > SCALES else None
        if scales is not None and scales.const_value is not None:
            node.replace_input_with(SCALES, op.constant(scales.const_value.numpy()))


def _converter() -> Any:
    """Import the converter of onnxruntime without its side effect: the package adds its folder to `sys.path`."""
    path = list(sys.path)
    try:
        from onnxruntime.transformers import float16
    finally:
        sys.path[:] = path
    return float16


def rounding_session(path: Path) -> InferenceSession:
    """Open a float16 graph that runs on the CPU as on float16 hardware: every tensor is rounded, and may overflow.

    onnxruntime has few float16 kernels for the CPU. Between them it computes in float32, and skips the rounding. Two
    copies behind each tensor, for which it has kernels, prevent that.
    """
    model = ir.external_data.load_to_model(ir.load(path))
    graph = model.graph
    op = Ops(graph, "rounded")
    for value in [o for node in graph for o in node.outputs if o.dtype == ir.DataType.FLOAT16]:
        users = list(value.uses())
        copy = op.Identity(op.Identity(value))
        for user, index in users:
            user.replace_input_with(index, copy)
    graph.sort()
    return session(model, optimize=False)


def leave_out_rounding(graph: ir.Graph) -> bool:
    """Replace QuantizeLinear and its DequantizeLinear by copies, but for weights; return whether there were any.

    So are other nodes through which a gradient goes straight.
    """
    varying, any_rounding = set(graph.inputs), False
    rounded: set[ir.Value] = set()
    for node in graph:
        if varying.isdisjoint(reads(node)):
            continue
        varying.update(node.outputs)
        between = not rounded.isdisjoint(node.inputs)
        if marked(node, STRAIGHT):
            node.op_type, any_rounding = "Identity", True
            node.attributes.clear()
            node.resize_inputs(1)
        if node.op_type == "QuantizeLinear" or (node.op_type == "DequantizeLinear" and between):
            node.domain, any_rounding, between = "", True, node.op_type == "QuantizeLinear"
            node.op_type = "Identity"
            node.attributes.clear()
            node.resize_inputs(1)
        for value in node.outputs:
            if between and value.dtype not in UNROUNDED:
                rounded.add(value)
                value.type = value.shape = None  # between the two, a float now
    return any_rounding


def refusal(model: ir.Model, precision: ScorePrecision, finding: Finding) -> ModelError:
    """Return the error for a model whose score graph gives other outputs, or other maps, than `model` does.

    Args:
        model: The float32 model.
        precision: Of the score graph.
        finding: The comparison that decided, of outputs or of maps; its error is NaN where outputs are not finite.
    """
    what, off = "the model's outputs are", "not finite"
    error, limit = _told_apart(finding.error, finding.limit, 4 if finding.at_least else 2)
    remedies = ["calibrate on more photos, prepared as the model wants them"] * (precision == "int8")
    if np.isfinite(finding.error):
        off = f"off by {error} ({limit} is allowed)"
    if EXACT in finding.what:
        method, _, measured = finding.what.partition(f" by {precision} {EXACT}: ")
        what, off = f"{method}'s maps drift:", f"{measured}, is {error} ({limit} is allowed)"
        remedies.append("accept it with --accept-drift")
    if precision == "int8":
        remedies.append("export it without --precision int8")
        remedy = f"{', '.join(remedies[:-1])}, or {remedies[-1]}"
        return ModelError(f"in int8 {what} {off}: its values need more than 8 bits; {remedy}")
    largest = float(np.finfo(np.float16).max)
    biggest = {name: _magnitude(value) for name, value in model.graph.initializers.items()}
    name = max(biggest, key=lambda n: biggest[n], default="")
    cause = "some of its values grow beyond what float16 holds, or need more digits"
    if biggest.get(name, 0.0) > largest:
        cause = f"tensor {name!r} holds {biggest[name]:.1e}, float16 ends at {largest:.0f}"
    return ModelError(f"in float16 {what} {off}: {cause}; {REMEDY}")


def _told_apart(error: float, limit: float, least: int) -> tuple[str, str]:
    """Write two different numbers with as many digits as it takes to see which is larger, and no fewer than `least`."""
    digits = next((d for d in range(least, 17) if f"{error:.{d}g}" != f"{limit:.{d}g}"), 17)
    return f"{error:.{digits}g}", f"{limit:.{digits}g}"


def _magnitude(value: ir.Value) -> float:
    """Return the largest magnitude in a float32 constant, without numbers that stand for infinity."""
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT:
        return 0.0
    array = np.abs(tensor.numpy())
    return float(array.max(initial=0.0, where=array < INFINITE))
