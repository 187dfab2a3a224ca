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
        ("(float[4] x, int64[1] a) => (float[1] y) {y = ReduceSum(x, a)}", "`axes` must be an initializer"),
        ("(float[4] x) => (double[4] y) {d = Cast<to = 11>(x) y = Sin(d)}", "is of another type"),
        ("(float[4] x) => (int64 y) {u, i = Unique(x) y = Size(u)}", "not in TensorRT's table"),
        ("(float[4] x) => (float[4] y) {y = custom.Thing(x)}", "not in TensorRT's table"),
        (
            "(float[1,1,4,4] x) => (float y) {y, i = MaxPool<kernel_shape = [2, 2]>(x)}",
            "`Indices` output tensor unsupported",
        ),
        (
            "(float[1,1,8,8] x) => (float y) {y = MaxPool<kernel_shape = [2, 2], dilations = [2, 1]>(x)}",
            "`dilations` must be empty or all ones",
        ),
        ("(float[1,1,8] x) => (float y) {y = AveragePool<kernel_shape = [2]>(x)}", "2D or 3D Pooling only"),
        (
            """(float[1,1,4,4] x) => (float y) <float[4] s = {1, 1, 2, 2}>
            {y = Resize<mode = "cubic">(x, , s)}""",
            "Supported resize modes: `nearest`, `linear`",
        ),
        (
            """(float[1,1,4,4] x) => (float y) <float[4] s = {1, 1, 2, 2}>
            {y = Resize<coordinate_transformation_mode = "tf_crop_and_resize">(x, , s)}""",
            "Supported resize transformation modes",
        ),
        (
            """(float[1,1,4,4] x) => (float y) <float[2] s = {2, 2}> {y = Resize<axes = [2, 3]>(x, , s)}""",
            "`axes` must be an iota vector",
        ),
        (
            """(float[4] x) => (float[4] y) <float s = {0.1}, int8 z = {3}>
            {q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)}""",
            "`y_zero_point` must be 0",
        ),
        (
            '(float[4] x, int64[2] i, float[2] u) => (float[4] y) {y = ScatterElements<reduction = "add">(x, i, u)}',
            "`reduction` is not supported",
        ),
        ("(float[4] x, int64[1] k) => (float y) {y, i = TopK(x, k)}", "`K` input must be less than 3840"),
        ("(float[N,M] x) => (float y) {y = EyeLike(x)}", "not known how to check: `input` must have static dimensions"),
    ],
)
def test_violations_are_found(text, why, violations, harness):
    if violations is None:
        pytest.skip("no table of TensorRT's operators beside the repository")
    assert any(why in line for line in violations(harness.parse(f"agraph {text}")))
