import numpy as np
import pytest
import torch

X = ("N", 3, 5, 4)
HALF = {"dtype": np.float16}
DROP = {"keepdims": 0}
NOOP = {"noop_with_empty_axes": 1}
NONE = np.array([], np.int64)

CASES = [
    ("sum", "ReduceSum", {}, [X, [2, 3]], lambda x, _: x.sum((2, 3), keepdim=True)),
    ("sum-negative-axes", "ReduceSum", DROP, [X, [-1, 1]], lambda x, _: x.sum((1, 3))),
    ("sum-noop", "ReduceSum", {"noop_with_empty_axes": 1}, [X], lambda x: 1 * x),
    ("sum-noop-of-none", "ReduceSum", NOOP | DROP, [X, NONE], lambda x, _: 1 * x),
    ("mean-noop", "ReduceMean", NOOP, [X], lambda x: 1 * x),
    ("mean-noop-of-none", "ReduceMean", NOOP | DROP, [X, NONE], lambda x, _: 1 * x),
    ("max-noop", "ReduceMax", NOOP, [X], lambda x: 1 * x),
    ("max-noop-of-none", "ReduceMax", NOOP, [X, NONE], lambda x, _: 1 * x),
    ("min-noop-drop", "ReduceMin", NOOP | DROP, [X, NONE], lambda x, _: 1 * x, {"opset": 20}),
    ("sum-square-noop", "ReduceSumSquare", NOOP, [X], lambda x: x * x),
    ("l1-noop", "ReduceL1", NOOP | DROP, [X], lambda x: x.abs()),
    ("l2-noop", "ReduceL2", NOOP, [X, NONE], lambda x, _: x.abs()),
    ("log-sum-exp-noop", "ReduceLogSumExp", NOOP | DROP, [X], lambda x: 1 * x),
    (
        "log-sum-exp-of-masked",
        "agraph (float[N,3,5,4] x) => (float y) <int64[1] axes = {2}, float low = {-inf}, float limit = {-0.3}>"
        "{c = Greater(x, limit) m = Where(c, low, x) r = ReduceLogSumExp(m, axes) y = Exp(r)}",
        *({}, None, lambda x: torch.where(x <= -0.3, x.exp(), 0).sum(2, keepdim=True)),
    ),
    ("mean", "ReduceMean", {}, [X, [2, 3]], lambda x, _: x.mean((2, 3), keepdim=True)),
    ("mean-of-one", "ReduceMean", DROP, [("N", 4, 1, 1), [2, 3]], lambda x, _: x.mean((2, 3))),
    ("mean-drop", "ReduceMean", DROP, [X, [-2, -1]], lambda x, _: x.mean((2, 3))),
    ("mean-first", "ReduceMean", DROP, [X, [1]], lambda x, _: x.mean(1)),
    ("mean-attribute", "ReduceMean", {"axes": [2, 3], **DROP}, [X], lambda x: x.mean((2, 3)), {"opset": 17}),
    ("mean-half", "ReduceMean", {}, [X, [2, 3]], lambda x, _: x.mean((2, 3), keepdim=True), HALF),
    ("max", "ReduceMax", DROP, [X, [2, 3]], lambda x, _: x.amax((2, 3))),
    ("max-ties", "ReduceMax", DROP, [X, [-1, 2]], lambda x, _: x.amax((2, 3)), {"at": np.round}),
    ("max-keep", "ReduceMax", {}, [X, [1]], lambda x, _: x.amax(1, keepdim=True), {"at": np.round}),
    ("min-ties", "ReduceMin", DROP, [X, [2, 3]], lambda x, _: x.amin((2, 3)), {"at": np.round}),
    ("max-half", "ReduceMax", DROP, [X, [2, 3]], lambda x, _: x.amax((2, 3)), HALF),
    ("prod", "ReduceProd", DROP, [X, [1]], lambda x, _: x.prod(1)),
    ("prod-zeros", "ReduceProd", {}, [X, [2]], lambda x, _: x.prod(2, keepdim=True), {"at": np.round}),
    ("prod-all", "ReduceProd", DROP, [X, [3, 1, -2]], lambda x, _: x.flatten(1).prod(1), {"at": lambda x: 1.3 * x}),
    ("prod-noop", "ReduceProd", NOOP, [X], lambda x: 1 * x),
    ("sum-square", "ReduceSumSquare", DROP, [X, [1, 3]], lambda x, _: (x * x).sum((1, 3))),
    ("l1", "ReduceL1", DROP, [X, [1, 3]], lambda x, _: x.abs().sum((1, 3))),
    ("l2", "ReduceL2", DROP, [X, [-1]], lambda x, _: torch.linalg.vector_norm(x, dim=-1)),
    ("l2-keep", "ReduceL2", {}, [X, [1]], lambda x, _: torch.linalg.vector_norm(x, dim=1, keepdim=True)),
    ("l2-of-zeros", "ReduceL2", DROP, [X, [1]], lambda x, _: torch.linalg.vector_norm(x, dim=1), {"at": np.zeros_like}),
    ("log-sum-exp", "ReduceLogSumExp", DROP, [X, [2, 3]], lambda x, _: x.logsumexp((2, 3))),
    ("log-sum-exp-wide", "ReduceLogSumExp", {}, [X, [1]], lambda x, _: x.logsumexp(1, True), {"at": lambda x: 60 * x}),
]


def test_gradient(case, check):
    check(*case)


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax"])
def test_reduction_over_the_batch_is_refused(op, refused):
    assert "over the batch" in refused(f"agraph (float[N,4] x) => (float y) {{y = {op}(x)}}")
