"""The score graph in int8: a quarter of the weights' bytes, and faster on CPUs with dot products of 8 bits.

onnxruntime.quantization does the rounding: weights per output channel, symmetric; activations per tensor, in unsigned
8 bits. A map is a softmax over scores, and shows errors that a top class does not. So two things are added: ranges get
headroom, for pictures that excite a layer more than those calibrated on; and biases are corrected.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, create_calibrator
from onnxruntime.quantization.calibrate import TensorsData
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import (
    fuse_batchnorm_into_conv_rule,
    fuse_batchnorm_into_conv_transpose_rule,
    fuse_batchnorm_into_gemm_rule,
)

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.gradient import Ops
from fusioncam.export.reading.further_inputs import further_inputs
from fusioncam.export.reading.load import fold
from fusioncam.export.sessions import failing_as, quiet, session
from fusioncam.files import temporary_folder
from fusioncam.further_inputs import drawn
from fusioncam.kernels.arrays import Array

Batches = Callable[[], Iterable[Array]]
Range = tuple[float, float]

WEIGHTED = ("Conv", "Gemm")  # with a bias, which can be corrected
PRODUCTS = (*WEIGHTED, "MatMul")
# Operators that carry 8 bits between products. Others, such as Softmax, stay in float32: they cost little.
CARRIERS = (
    *("Add", "Mul", "Relu", "Clip", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Pad", "Resize"),
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split"),
)
FUSIONS = (fuse_batchnorm_into_conv_rule, fuse_batchnorm_into_conv_transpose_rule, fuse_batchnorm_into_gemm_rule)
HEADROOM = 1.1  # of a range over what was seen in it
REMEDY = "export it without --precision int8"


def in_int8(model: ir.Model, batches: Batches, pixels: Range | None, symmetric: bool = False) -> ir.Model:
    """Return the score graph with QuantizeLinear / DequantizeLinear pairs; inputs and outputs stay float32.

    Args:
        model: A float32 model in canonical form; it is left as it is.
        batches: Called twice, gives the pictures to calibrate on: arrays (B, C, H, W), one at a time in memory.
        pixels: Least and greatest value that `image` can have; None where only the batches tell them.
        symmetric: Whether activations, too, are signed 8 bits around zero, as TensorRT wants them. Where they are never
            negative, as after a Relu, one bit is lost.

    Raises:
        UsageError: The model has no product with constant weights.
        ModelError: onnxruntime cannot quantise it, or cannot run it.
    """
    model = _prepared(model)
    if not any(_constant(node.inputs[1]) for node in model.graph if node.op_type in PRODUCTS):
        raise UsageError(f"the model has no convolution or matrix product to bring to int8; {REMEDY}")
    with failing_as(lambda why: ModelError(f"the model cannot be brought to int8: {why}; {REMEDY}")), quiet():
        seen = _ranges(model, batches)
        quantised = _quantise(model, _with_headroom(model, seen, pixels), symmetric)
        _correct_biases(model, quantised, batches)
        if symmetric:
            _keep_floats(quantised)
        session(quantised)
    return quantised


def _prepared(model: ir.Model) -> ir.Model:
    """Return a copy with BatchNormalizations fused into convolutions, which all get a name and a bias."""
    model = model.clone()
    with quiet():
        model = rewrite(model, pattern_rewrite_rules=list(FUSIONS))
    fold(model)
    op = Ops(model.graph, "int8")
    for i, node in enumerate(list(model.graph)):
        node.name = f"{node.op_type}_{i}"
        if node.op_type in WEIGHTED and _constant(node.inputs[1]) and (len(node.inputs) < 3 or node.inputs[2] is None):
            node.resize_inputs(3)
            node.replace_input_with(2, op.constant(np.zeros(_outputs(node), np.float32)))
    return model


def _constant(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None


def _outputs(node: ir.Node) -> int:
    """Return the number of output channels of a Conv or Gemm with constant weights."""
    weight = node.inputs[1]
    shape = weight.const_value.numpy().shape if weight is not None and weight.const_value is not None else ()
    transposed = "transB" in node.attributes and node.attributes["transB"].as_int()
    return int(shape[0 if node.op_type == "Conv" or transposed else 1])


def _ranges(model: ir.Model, batches: Batches) -> dict[str, Range]:
    """Return the least and greatest value of every tensor over all pictures; the graph finds them, batch by batch."""
    further = further_inputs(model)
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        onnx.save(ir.to_proto(model), path)
        calibrator = create_calibrator(
            path,
            [*PRODUCTS, *CARRIERS],
            augmented_model_path=str(path.with_name("augmented.onnx")),
            calibrate_method=CalibrationMethod.MinMax,
        )
        for batch in batches():
            feeds = iter([{"image": batch, **drawn(further, len(batch))}, None])
            calibrator.collect_data(SimpleNamespace(get_next=feeds.__next__))
        data = calibrator.compute_data()
    ends = {name: value.range_value for name, value in data.data.items()}
    return {name: (float(np.min(low)), float(np.max(high))) for name, (low, high) in ends.items()}


def _with_headroom(model: ir.Model, seen: Mapping[str, Range], pixels: Range | None) -> dict[str, Range]:
    """Return ranges that are a little wider, but not beyond those of a Clip or of a picture."""
    bounds = dict(_bounds(model.graph))
    wider = {}
    for name, (low, high) in seen.items():
        least, most = bounds.get(name, (-np.inf, np.inf))
        wider[name] = (max(low * HEADROOM, least), min(high * HEADROOM, most))
    low, high = pixels or wider["image"]
    return {**wider, "image": (min(low, 0.0), max(high, 0.0))}


def _bounds(graph: ir.Graph) -> Iterator[tuple[str, Range]]:
    for node in graph:
        if node.op_type == "Clip":
            limits = [v.const_value for v in node.inputs[1:] if v is not None]
            if len(node.inputs) == 3 and len(limits) == 2 and all(limits):
                low, high = (float(t.numpy().item()) for t in limits if t is not None)
                yield str(node.outputs[0].name), (low, high)


def _quantise(model: ir.Model, ranges: Mapping[str, Range], symmetric: bool) -> ir.Model:
    numbers = {name: tuple(np.float32(v) for v in both) for name, both in ranges.items()}
    quantizer = QDQQuantizer(
        ir.to_proto(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, numbers),
        nodes_to_quantize=[],
        # What makes both sides of a single output: its logits, too, keep their digits.
        nodes_to_exclude=[n.name for n in model.graph if n.op_type == "Mul" and n.outputs[0] in model.graph.outputs],
        op_types_to_quantize=[*PRODUCTS, *CARRIERS],
        # Products of two activations, as in attention, would lose too much; logits keep their digits where they can.
        extra_options={
            "MatMulConstBOnly": True,
            "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
            "ActivationSymmetric": symmetric,
        },
    )
    quantizer.quantize_model()
    quantised: ir.Model = ir.from_proto(quantizer.model.model)
    passes.RemoveUnusedNodesPass()(quantised)
    quantised.graph.sort()
    return quantised


def _correct_biases(model: ir.Model, quantised: ir.Model, batches: Batches) -> None:
    """Subtract from every bias the mean that rounding adds to the output.

    Weights W rounded to V and an input x rounded to z shift an output by W x - V z, whose mean over pictures and pixels
    is not zero: small activations become zeros, and the roundings of a small kernel do not cancel. On MobileNetV2
    most of the drift of the map comes of it. Nagel et al., Data-Free Quantization Through Weight Equalization and Bias
    Correction, arXiv 1906.04721, section 4.2, with means measured on pictures, operator by operator.
    """
    errors = model.clone()
    graph, before = errors.graph, {n.name: n for n in errors.graph}
    op = Ops(graph, "error")
    graph.outputs.clear()
    corrected = []
    for node in quantised.graph:
        source = before.get(node.name)
        if node.op_type not in WEIGHTED or source is None or not all(map(_rounded, node.inputs[1:3])):
            continue
        _, integers, scales = _parts(node.inputs[1])
        weight = op.constant(integers.astype(np.float32) * scales)
        attributes = {a.name: a.value for a in source.attributes.values()}
        x = _as_rounded(op, source.inputs[0], node.inputs[0])
        rounded = getattr(op, source.op_type)(x, weight, source.inputs[2], **attributes)
        axes = [0, *range(2, 2 if node.op_type == "Gemm" else len(weight.shape or ()))]
        mean = op.ReduceMean(op.Sub(source.outputs[0], rounded), op.ints(axes), keepdims=0)
        mean.dtype, mean.shape = ir.DataType.FLOAT, ir.Shape([None])
        graph.outputs.append(mean)
        corrected.append(node)
    if corrected:
        for node, shift in zip(corrected, _means(errors, batches), strict=True):
            _add_to_bias(node, shift)


def _keep_floats(quantised: ir.Model) -> None:
    """Replace the integers that TensorRT refuses by the floats that they stand for: biases in 32 bits, and scalars."""
    op = Ops(quantised.graph, "float")
    for node in list(quantised.graph):
        if node.op_type == "DequantizeLinear" and _constant(node.inputs[0]):
            _, integers, scales = _parts(node.outputs[0])
            if integers.dtype == np.int32 or integers.ndim == 0:
                node.outputs[0].replace_all_uses_with(op.constant((integers * scales).astype(np.float32)))
    passes.RemoveUnusedNodesPass()(quantised)


def _rounded(value: ir.Value | None) -> bool:
    """Return whether a value is a dequantised constant that only one node reads."""
    node = value.producer() if value is not None else None
    if value is None or node is None or node.op_type != "DequantizeLinear" or len(value.uses()) > 1:
        return False
    return _constant(node.inputs[0])


def _parts(value: ir.Value | None) -> tuple[ir.Value, Array, Array]:
    """Return the value and the integers behind a dequantised constant, and their scales, shaped to multiply."""
    node = value.producer() if value is not None else None
    holder = node.inputs[0] if node is not None else None
    assert node is not None
    assert holder is not None
    integers, scales = (v.const_value.numpy() for v in node.inputs[:2] if v is not None and v.const_value is not None)
    shape = [1] * integers.ndim
    if scales.size > 1:
        shape[node.attributes.get_int("axis", 1)] = -1
    return holder, integers, scales.reshape(shape if integers.ndim else ())


def _as_rounded(op: Ops, x: ir.Value | None, rounded: ir.Value | None) -> ir.Value | None:
    """Return x after the pair of operators that rounds it in the quantised graph."""
    node = rounded.producer() if rounded is not None else None
    if node is None or node.op_type != "DequantizeLinear" or not all(map(_constant, node.inputs[1:])):
        return x
    pair = [op.constant(v.const_value.numpy()) for v in node.inputs[1:] if v is not None and v.const_value is not None]
    return op.DequantizeLinear(op.QuantizeLinear(x, *pair), *pair)


def _means(errors: ir.Model, batches: Batches) -> list[Array]:
    passes.RemoveUnusedNodesPass()(errors)
    errors.graph.sort()
    model, count, further = session(errors), 0, further_inputs(errors)
    sums: list[Array] = []
    for batch in batches():
        weighted = [
            len(batch) * m.astype(np.float64) for m in model.run(None, {"image": batch, **drawn(further, len(batch))})
        ]
        sums = [a + b for a, b in zip(sums, weighted, strict=True)] if sums else weighted
        count += len(batch)
    return [s / count for s in sums]


def _add_to_bias(node: ir.Node, mean: Array) -> None:
    holder, integers, scales = _parts(node.inputs[2])
    ends = np.iinfo(np.int32)
    moved = np.clip(integers + np.round(mean / scales), ends.min, ends.max).astype(np.int32)
    holder.const_value = ir.tensor(moved, name=holder.name)
