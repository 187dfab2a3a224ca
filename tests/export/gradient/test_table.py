"""The table as a whole: no rule that must exist is missing, none goes untested, none emits what TensorRT refuses."""

import onnx
import pytest

from fusioncam.export.gradient import RULES

REQUIRED = (
    *("Add", "Sub", "Mul", "Div", "Sum", "Neg", "Pow", "Sqrt", "Exp", "Log", "Reciprocal", "Where", "Identity", "Cast"),
    *("Dropout", "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization"),
    *("InstanceNormalization", "LRN", "Relu", "LeakyRelu", "PRelu", "Elu", "Clip", "Sigmoid", "HardSigmoid"),
    *("HardSwish", "Tanh", "Erf", "Gelu", "Softmax", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
    *("ReduceMean", "ReduceSum", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice"),
    *("Gather", "GatherND", "Pad", "Expand", "Resize", "DepthToSpace", "SpaceToDepth", "QuantizeLinear"),
    "DequantizeLinear",
)


def test_required_rules_exist():
    assert {("", op) for op in REQUIRED} <= set(RULES)


def test_every_rule_has_a_case(modules, harness):
    operators = set()
    for _, op, _, inputs, *_ in (case for module in modules for case in module.CASES):
        operators |= {op} if inputs is not None else {node.op_type for node in harness.parse(op).graph.node}
    assert {op for _, op in RULES} <= operators


def test_every_rule_is_of_an_operator_that_onnx_has():
    assert all(onnx.defs.has(op) for _, op in RULES)


def test_emitted_nodes_are_held_against_tensorrt(violations):
    # The cases of all rules are, by `check`; here only: that this happens at all.
    if violations is None:
        pytest.skip("no table of TensorRT's operators beside the repository")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(float[4] x, int64[1] a) => (float[1] y) {y = ReduceSum(x, a)}", "axes is not a constant"),
        ("(float[4] x) => (double[4] y) {d = Cast<to = 11>(x) y = Sin(d)}", "is of another type"),
        ("(float[4] x) => (int64 y) {u, i = Unique(x) y = Size(u)}", "not in TensorRT's table"),
        ("(float[4] x) => (float[4] y) {y = custom.Thing(x)}", "not in TensorRT's table"),
        (
            "(float[1,1,4,4] x) => (float y) {y, i = MaxPool<kernel_shape = [2, 2]>(x)}",
            "`Indices` output tensor unsupported",
        ),
    ],
)
def test_violations_are_found(text, why, violations, harness):
    if violations is None:
        pytest.skip("no table of TensorRT's operators beside the repository")
    assert any(why in line for line in violations(harness.parse(f"agraph {text}")))
