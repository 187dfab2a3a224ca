import numpy as np
import pytest
import torch

X = ("N", 3, 5, 4)
HALF = {"dtype": np.float16}
DROP = {"keepdims": 0}

CASES = [
    ("sum", "ReduceSum", {}, [X, [2, 3]], lambda x, _: x.sum((2, 3), keepdim=True)),
    ("sum-negative-axes", "ReduceSum", DROP, [X, [-1, 1]], lambda x, _: x.sum((1, 3))),
    ("sum-noop", "ReduceSum", {"noop_with_empty_axes": 1}, [X], lambda x: 1 * x),
    ("mean", "ReduceMean", {}, [X, [2, 3]], lambda x, _: x.mean((2, 3), keepdim=True)),
    ("mean-drop", "ReduceMean", DROP, [X, [-2, -1]], lambda x, _: x.mean((2, 3))),
    ("mean-first", "ReduceMean", DROP, [X, [1]], lambda x, _: x.mean(1)),
    ("mean-attribute", "ReduceMean", {"axes": [2, 3], **DROP}, [X], lambda x: x.mean((2, 3)), {"opset": 17}),
    ("mean-half", "ReduceMean", {}, [X, [2, 3]], lambda x, _: x.mean((2, 3), keepdim=True), HALF),
    ("max", "ReduceMax", DROP, [X, [2, 3]], lambda x, _: x.amax((2, 3))),
    ("max-ties", "ReduceMax", DROP, [X, [-1, 2]], lambda x, _: x.amax((2, 3)), {"at": np.round}),
    ("max-keep", "ReduceMax", {}, [X, [1]], lambda x, _: x.amax(1, keepdim=True), {"at": np.round}),
    ("min-ties", "ReduceMin", DROP, [X, [2, 3]], lambda x, _: x.amin((2, 3)), {"at": np.round}),
    ("max-half", "ReduceMax", DROP, [X, [2, 3]], lambda x, _: x.amax((2, 3)), HALF),
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
