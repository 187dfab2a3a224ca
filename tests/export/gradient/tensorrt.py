"""A fast hint at what TensorRT refuses in a model: the operator table of its parser, and facts that the table lacks.

A table is no proof, a built engine is: the tests build the graphs, too, where TensorRT-RTX's builder is installed.
"""

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[3]
TABLE = Path(
    os.environ.get("FUSIONCAM_TENSORRT_TABLE", ROOT.parent / "shared" / "reference" / "tensorrt_10_operators.json")
)
TYPES = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT64: "INT64",
    TensorProto.INT32: "INT32",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
}
# What the parser or the builder of TensorRT-RTX 1.7.1 refuses, though the table does not say so; in the table's style.
BEYOND = {
    "NonZero": "a plugin is needed",
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin"), "rank of the input must be at least 2"),
    **dict.fromkeys(
        (
            *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
            *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
        ),
        "rank of the input must be at least 1",
    ),
    "ConvTranspose": "`strides` or `dilations` must be all ones. `pads` must not be negative",
    "Resize": "`sizes` with `axes` needs fixed other axes",
    "Slice": "`axes` must be given if `starts` does not name every axis",
    "BatchNormalization": "`training_mode` must be zero",
    "ScatterElements": "`reduction` is not supported",
}
# Operators whose other inputs have types of their own; of a Scan the builder takes integers, whatever the table says.
DATA_ONLY = ("CumSum", "QuantizeLinear", "DequantizeLinear", "Resize", "Scan")
MOST = 3840  # of TopK


@dataclass(frozen=True)
class Use:
    """One node: attributes and inputs by their names in the operator's schema, and what is known of its tensors."""

    node: onnx.NodeProto
    attributes: dict
    inputs: dict
    types: dict
    shapes: dict
    constants: dict

    def is_constant(self, parameter):
        return self.inputs.get(parameter) is None or self.inputs[parameter] in self.constants

    def value(self, parameter):
        return self.constants.get(self.inputs.get(parameter))

    def is_zero(self, parameter):
        return self.inputs.get(parameter) is None or (self.is_constant(parameter) and not self.value(parameter).any())

    def rank(self):
        return len(self.shapes[self.node.input[0]])

    def ones(self, attribute):
        return set(self.attributes.get(attribute, ())) <= {1}

    def same_pads(self):
        pads = self.attributes.get("pads", [])
        return pads[: len(pads) // 2] == pads[len(pads) // 2 :]

    def resizes_by_axes(self):
        return "axes" in self.attributes and self.inputs.get("sizes") is not None

    def mode(self, name, default, words):
        return self.attributes.get(name, default) in re.findall(r"`(\w+)`", words)


# Sentence of the table, and whether a use of the operator keeps to it. A sentence that is not here is itself reported.
RESTRICTIONS = {
    r"`(\w+)` must be (?:an initializer|a constant tensor|a build-time constant)": lambda u, name: u.is_constant(name),
    r"`(\w+)` must be (?:0|zero)": lambda u, name: u.is_zero(name) and not u.attributes.get(name),
    r"a plugin is needed": lambda u: False,
    r"rank of the input must be at least (\d)": lambda u, least: u.rank() >= int(least),
    r"`strides` or `dilations` must be all ones": lambda u: u.ones("strides") or u.ones("dilations"),
    r"`pads` must not be negative": lambda u: min(u.attributes.get("pads", ()), default=0) >= 0,
    r"`sizes` with `axes` needs fixed other axes": lambda u: (
        not (u.resizes_by_axes() and None in u.shapes[u.node.input[0]])
    ),
    r"`axes` must be given if `starts` does not name every axis": lambda u: (
        u.inputs.get("axes") is not None or u.value("starts").size == u.rank()
    ),
    r"Input must be 4D input": lambda u: u.rank() == 4,
    r"`input` must have 1D or 2D spatial dimensions": lambda u: u.rank() in (3, 4),
    r"`pads` for the beginning and end along each spatial axis must be the same": lambda u: u.same_pads(),
    r"2D or 3D pooling only": lambda u: u.rank() in (4, 5),
    r"`Indices` output tensor unsupported": lambda u: not any(u.node.output[1:]),
    r"`dilations` must be empty or all ones": lambda u: u.ones("dilations"),
    r"Only the first output `Y` is supported": lambda u: not any(u.node.output[1:]),
    r"Supported resize transformation modes: (.+)": lambda u, words: u.mode(
        "coordinate_transformation_mode", "half_pixel", words
    ),
    r"Supported resize modes: (.+)": lambda u, words: u.mode("mode", "nearest", words),
    r"Supported nearest modes: (.+)": lambda u, words: (
        u.attributes.get("mode", "nearest") != "nearest" or u.mode("nearest_mode", "round_prefer_floor", words)
    ),
    r"Supported aspect ratio policy: (.+)": lambda u, words: u.mode("keep_aspect_ratio_policy", "stretch", words),
    r"When `scales` is a tensor input, `axes` must be an iota vector of length rank\(input\)": lambda u: (
        u.inputs.get("scales") is None or u.attributes.get("axes", [*range(u.rank())]) == [*range(u.rank())]
    ),
    r"Antialiasing is not supported": lambda u: not u.attributes.get("antialias", 0),
    r"`sorted` must be 1": lambda u: u.attributes.get("sorted", 1) == 1,
    r"`K` input must be less than 3840": lambda u: u.is_constant("K") and u.value("K").max() < MOST,
    r"Output tensors of the two conditional branches must have the same rank and must have different names": lambda u: {
        o.name for o in u.attributes["then_branch"].output
    }.isdisjoint(o.name for o in u.attributes["else_branch"].output),
    # Outputs of a Loop beyond those that are carried from turn to turn.
    r"Scan output length cannot be dynamic": lambda u: (
        len(u.node.output) <= len(u.node.input) - 2 or (bool(u.node.input[0]) and u.is_constant("M"))
    ),
    r"The shape of Loop carried dependencies must be the same across all loop iterations": lambda u: all(
        [d.dim_value for d in before.type.tensor_type.shape.dim]
        == [d.dim_value for d in after.type.tensor_type.shape.dim]
        for body in [u.attributes["body"]]
        for before, after in zip(body.input[2:], body.output[1:], strict=False)
    ),
    r"`reduction` is not supported": lambda u: u.attributes.get("reduction", "none") == "none",
    r"`sparse_value`, `value_string`, and `value_strings` attributes are unsupported": lambda u: (
        not {"sparse_value", "value_string", "value_strings"} & u.attributes.keys()
    ),
}


@cache
def table():
    return json.loads(TABLE.read_text())["operators"]


def trt_violations(model, prefix=""):
    """One line for each node named `prefix`... that TensorRT's parser would refuse."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    tensors = {v.name: v.type.tensor_type for v in [*inferred.input, *inferred.output, *inferred.value_info]}
    types = {name: t.elem_type for name, t in tensors.items()} | {i.name: i.data_type for i in inferred.initializer}
    shapes = {n: [d.dim_value if d.HasField("dim_value") else None for d in t.shape.dim] for n, t in tensors.items()}
    shapes |= {i.name: list(i.dims) for i in inferred.initializer}
    constants = {i.name: numpy_helper.to_array(i) for i in inferred.initializer}
    constants |= {n.output[0]: _attributes(n).get("value") for n in inferred.node if n.op_type == "Constant"}
    opset = next(o.version for o in model.opset_import if not o.domain)
    lines = []
    for node in (n for n in inferred.node if n.name.startswith(prefix)):
        facts = table().get(node.op_type)
        if node.domain or facts is None or not facts["supported"]:
            lines.append(f"{node.op_type} {node.name}: not in TensorRT's table")
            continue
        names = [i.name for i in onnx.defs.get_schema(node.op_type, opset).inputs]
        inputs = {n: given for n, given in zip(names, node.input, strict=False) if given}
        use = Use(node, _attributes(node), inputs, types, shapes, constants)
        lines += [f"{node.op_type} {node.name}: {why}" for why in _refusals(use, facts)]
    return lines


def _attributes(node):
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    found = {k: numpy_helper.to_array(v) if isinstance(v, TensorProto) else v for k, v in found.items()}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}


def _refusals(use, facts):
    typed = use.node.input[:1] if use.node.op_type in DATA_ONLY else use.node.input
    kinds = {name: TYPES.get(use.types.get(name), "of another type") for name in typed if name}
    restrictions = ". ".join(filter(None, (facts["restrictions"].rstrip(". "), BEYOND.get(use.node.op_type))))
    refusals = [f"input {name!r} is {kind}" for name, kind in kinds.items() if kind not in facts["types"]]
    for sentence in re.split(r"\.\s*(?:<br />)?\s*|<br />", restrictions):
        if not sentence:
            continue
        found = [(keeps, m) for rule, keeps in RESTRICTIONS.items() if (m := re.fullmatch(rule, sentence, re.I))]
        if not found:
            refusals.append(f"not known how to check: {sentence}")
        refusals += [sentence for keeps, m in found if not keeps(use, *m.groups())]
    return refusals
