"""What TensorRT's ONNX parser would refuse in a model, by its own table of operators."""

import json
import os
import re
from functools import cache
from pathlib import Path

import onnx
from onnx import TensorProto

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
CONSTANT = re.compile(r"`(\w+)` must be (?:an initializer|a constant tensor|a build-time constant)")


@cache
def table():
    return json.loads(TABLE.read_text())["operators"]


def trt_violations(model, prefix=""):
    """One line for each node named `prefix`... that TensorRT's parser would refuse."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*inferred.input, *inferred.output, *inferred.value_info]}
    types |= {i.name: i.data_type for i in inferred.initializer}
    constants = {i.name for i in inferred.initializer}
    constants |= {o for n in inferred.node if n.op_type == "Constant" for o in n.output}
    opset = next(o.version for o in model.opset_import if not o.domain)
    nodes = [n for n in inferred.node if n.name.startswith(prefix)]
    return [f"{n.op_type} {n.name}: {why}" for n in nodes for why in _refusals(n, types, constants, opset)]


def _refusals(node, types, constants, opset):
    facts = table().get(node.op_type)
    if node.domain or facts is None or not facts["supported"]:
        return ["not in TensorRT's table"]
    refusals = [
        f"input {name!r} is {TYPES.get(types.get(name), 'of another type')}"
        for name in node.input
        if name and TYPES.get(types.get(name)) not in facts["types"]
    ]
    names = [i.name for i in onnx.defs.get_schema(node.op_type, opset).inputs]
    for parameter in CONSTANT.findall(facts["restrictions"]):
        given = dict(zip(names, node.input, strict=False)).get(parameter)
        if given and given not in constants:
            refusals.append(f"{parameter} is not a constant")
    unknown = CONSTANT.sub("", facts["restrictions"]).strip(" .")
    # No other restriction applies to an operator that gradients are made of; this fails when one is.
    return [*refusals, unknown] if unknown else refusals
