import numpy as np
import pytest
import torch

from fusioncam.errors import UnsupportedOperatorError

X = ("N", 3, 5, 4)
CONDITION = np.random.default_rng(0).random((3, 1, 4)) < 0.5
EXPONENTS = np.array([0.0, 1.0, 2.0, 3.0])


def positive(x):
    return np.abs(x) + 0.1


def amax(*operands):
    return torch.stack(torch.broadcast_tensors(*operands)).amax(0)


def amin(*operands):
    return torch.stack(torch.broadcast_tensors(*operands)).amin(0)


def quantised(body):
    return "agraph (float[N,3,8] x) => (float[N,Z,Y] y) <float s = {0.05}, uint8 z = {128}>" + body


CASES = [
    (  # which onnxruntime holds in float32 beside the rounded output
        "max-half-computed",
        "agraph (float16[N,50] x) => (float16[N,50] y) {a = ThresholdedRelu(x) b = Sqrt(x) y = Max(a, b)}",
        *(
            {},
            None,
            lambda x: torch.maximum(x * (x > 1), x.sqrt()),
            {"dtype": np.float16, "at": lambda x: np.abs(x) + 0.1},
        ),
    ),
    ("identity", "Identity", {}, [X], lambda x: 1 * x),
    ("dropout", "Dropout", {}, [X, 0.3], lambda x, _: 1 * x),
    ("dropout-not-training", "Dropout", {"seed": 3}, [X, 0.3, np.array(False)], lambda x, *_: 1 * x),
    ("dropout-plain", "Dropout", {}, [X], lambda x: 1 * x),
    ("neg", "Neg", {}, [X], torch.neg),
    ("add", "Add", {}, [X, X], torch.add),
    ("add-row", "Add", {}, [X, (4,)], torch.add),
    ("add-narrow-left", "Add", {}, [("N", 1, 5, 1), X], torch.add),
    ("add-narrow-right", "Add", {}, [X, ("N", 3, 1, 4)], torch.add, {"wrt": 1}),
    ("add-both-ways", "Add", {}, [("N", 1, 5, 1), ("N", 3, 1, 4)], torch.add, {"wrt": 1}),
    ("add-fewer-axes", "Add", {}, [("N", 5), (3, 1, 1)], torch.add),
    ("add-fewer-axes-and-narrow", "Add", {}, [("N", 1), (3, 1, 5)], torch.add),
    ("sum", "Sum", {}, [X, (3, 1, 1), ("N", 1, 1, 4)], lambda a, b, c: a + b + c, {"wrt": 2}),
    ("sum-of-one", "Sum", {}, [X], lambda a: 1 * a),
    ("mean", "Mean", {}, [("N", 3, 1, 4), X, (5, 1)], lambda a, b, c: (a + b + c) / 3),
    ("sub", "Sub", {}, [X, (3, 1, 1)], torch.sub),
    ("sub-right", "Sub", {}, [(3, 1, 1), ("N", 1, 5, 4)], torch.sub, {"wrt": 1}),
    ("mul", "Mul", {}, [X, ("N", 3, 1, 1)], torch.mul),
    ("mul-right", "Mul", {}, [X, ("N", 3, 1, 1)], torch.mul, {"wrt": 1}),
    ("div", "Div", {}, [X, (3, 1, 1)], torch.div, {"at": positive}),
    ("div-right", "Div", {}, [X, ("N", 3, 1, 1)], torch.div, {"wrt": 1, "at": positive}),
    ("pow-2", "Pow", {}, [X, 2.0], torch.pow),
    ("pow-2-at-0", "Pow", {}, [X, 2.0], torch.pow, {"at": np.round}),
    ("pow-2-int", "Pow", {}, [X, np.array(2)], torch.pow, {"at": np.round}),
    ("pow-3", "Pow", {}, [X, 3.0], torch.pow, {"at": np.round}),
    ("pow-1", "Pow", {}, [X, 1.0], torch.pow, {"at": np.round}),
    ("pow-0", "Pow", {}, [X, 0.0], torch.pow, {"at": np.round}),
    ("pow-half", "Pow", {}, [X, 0.5], torch.pow, {"at": positive}),
    ("pow-minus-half", "Pow", {}, [X, -0.5], torch.pow, {"at": positive}),
    ("pow-minus-2", "Pow", {}, [X, -2.0], torch.pow),
    ("pow-minus-1-int32", "Pow", {}, [X, np.array([-1], np.int32)], torch.pow),
    ("pow-many", "Pow", {}, [X, EXPONENTS], torch.pow, {"at": np.round}),
    ("pow-fewer-axes", "Pow", {}, [("N", 1), np.array([[[2.0, 3.0]], [[1.0, 0.5]]])], torch.pow, {"at": positive}),
    ("pow-of-layer", "Pow", {}, [X, X], torch.pow, {"at": positive}),
    ("pow-exponent", "Pow", {}, [X, ("N", 1, 5, 4)], torch.pow, {"at": positive, "wrt": 1}),
    ("pow-exponent-of-0", "Pow", {}, [np.array([0.0, 1.0, 2.0, 0.5]), X], torch.pow, {"at": positive, "wrt": 1}),
    ("mod", "Mod", {"fmod": 1}, [X, (3, 1, 1)], torch.fmod),
    ("mod-right", "Mod", {"fmod": 1}, [X, ("N", 1, 5, 4)], torch.fmod, {"wrt": 1}),
    (
        "eye-like",
        "agraph (float[3,4] x) => (float[3,4] y) {e = EyeLike(x) y = Add(e, x)}",
        *({}, None, lambda x: x + torch.eye(3, 4)),
    ),
    ("where-then", "Where", {}, [CONDITION, X, X], torch.where, {"wrt": 1}),
    ("where-else", "Where", {}, [CONDITION, X, ("N", 1, 5, 1)], torch.where, {"wrt": 2}),
    ("where-narrow", "Where", {}, [CONDITION, ("N", 3, 1, 4), 0.0], torch.where, {"wrt": 1}),
    ("max", "Max", {}, [X, (3, 1, 1)], torch.maximum),
    ("max-of-one", "Max", {}, [X], lambda x: 1 * x),
    ("max-ties", "Max", {}, [X, X], torch.maximum, {"at": np.round}),
    ("max-of-three-ties", "Max", {}, [X, ("N", 3, 1, 4), (3, 1, 1)], amax, {"at": np.round, "wrt": 1}),
    ("min", "Min", {}, [X, ("N", 1, 5, 1)], torch.minimum, {"wrt": 1}),
    ("min-of-three-ties", "Min", {}, [X, ("N", 3, 1, 4), (3, 1, 1)], amin, {"at": np.round}),
    ("sign", "Sign", {}, [X], torch.sign),
    ("floor", "Floor", {}, [X], torch.floor),
    ("ceil", "Ceil", {}, [X], torch.ceil),
    ("round", "Round", {}, [X], torch.round),
    (
        "cast",
        "agraph (float16[N,3] x) => (float16[N,3] y) {f = Cast<to = 1>(x) s = Sin(f) y = Cast<to = 10>(s)}",
        *({}, None, torch.sin, {"dtype": np.float16}),
    ),
    (
        "cast-to-whole-numbers",
        "agraph (float[N,3] x) => (float[N,3] y) {i = Cast<to = 7>(x) f = Cast<to = 1>(i) y = Add(x, f)}",
        *({}, None, lambda x: x + x.detach().trunc()),
    ),
    (
        "cast-like",
        "agraph (float[N,3] x) => (float[N,3] y) {a = Mul(x, x) y = CastLike(a, x)}",
        *({}, None, lambda x: x * x),
    ),
    (
        "quantised",
        quantised("{q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Identity(d)}"),
        *({}, None, lambda x: x + (torch.round(x / 0.05) * 0.05 - x).detach()),
    ),
    (
        "quantised-moved",
        quantised(
            "{q = QuantizeLinear(x, s, z) t = Transpose<perm = [0, 2, 1]>(q)"
            "d = DequantizeLinear(t, s, z) y = Mul(d, d)}"
        ),
        *({}, None, lambda x: (x + (torch.round(x / 0.05) * 0.05 - x).detach()).mT ** 2),
    ),
    ("half-div", "Div", {}, [X, ("N", 3, 1, 1)], torch.div, {"wrt": 1, "at": positive, "dtype": np.float16}),
    ("half-pow", "Pow", {}, [X, 2.0], torch.pow, {"dtype": np.float16}),
    ("half-max", "Max", {}, [X, X], torch.maximum, {"at": np.round, "dtype": np.float16}),
]


def test_gradient(case, check):
    check(*case)


@pytest.mark.parametrize(
    "body",
    [
        "float[N,4] x) => (float y) <float r = {0.3}, bool t = {1}> {y = Dropout(x, r, t)}",
        "float[N,4] x) => (float y) <bool t = {1}> {y, m = Dropout<seed = 3>(x, , t)}",
        "float[N,4] x, bool t) => (float y) <float r = {0.3}> {y = Dropout(x, r, t)}",
    ],
    ids=["constant", "without-ratio", "computed"],
)
def test_dropout_in_training_is_refused(body, refused):
    assert "operator Dropout (node 'y') has no gradient rule: training_mode is true" in refused(f"agraph ({body}")


def test_numbers_by_their_bits_are_refused(harness):
    text = "agraph (float[N,4] x) => (float y) <int32 one = {1}>"
    body = "{b = BitCast<to = 6>(x) n = Sub(b, one) f = BitCast<to = 1>(n) y = Mul(f, x)}"
    with pytest.raises(UnsupportedOperatorError, match="operator BitCast"):
        harness.differentiate(harness.parse(text + body, 26), "x")
