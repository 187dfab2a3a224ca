import itertools

import numpy as np
import torch

X = ("N", 5, 4)
HALF = {"dtype": np.float16}


def gemm(alpha=1.0, beta=1.0, trans_a=0, trans_b=0):
    def function(a, b, c=0):
        return alpha * (a.T if trans_a else a) @ (b.T if trans_b else b) + beta * c

    return function


def einsum(equation):
    return lambda *operands: torch.einsum(equation, *operands)


SQUARE = ("N", 4, 4)


def einsum_cases(equation, inputs, *operands, name=""):
    """A row for each operand to differentiate by."""
    return [
        (f"einsum-{name or equation}-{i}", "Einsum", {"equation": equation}, inputs, einsum(equation), {"wrt": i})
        for i in operands
    ]


def vector(name, text, x, v, wrt):
    return (
        f"matmul-{name}-{wrt}",
        f"agraph (float[{x}] x, float[{v}] v) => (float y) {{y = {text}}}",
        *({}, None, torch.matmul, {"wrt": wrt}),
    )


CASES = [
    ("matmul", "MatMul", {}, [("N", 4), (4, 3)], torch.matmul),
    ("matmul-tokens", "MatMul", {}, [X, (4, 3)], torch.matmul),
    ("matmul-tokens-right", "MatMul", {}, [(3, 5), X], torch.matmul, {"wrt": 1}),
    ("matmul-batched", "MatMul", {}, [X, ("N", 4, 3)], torch.matmul),
    ("matmul-batched-right", "MatMul", {}, [X, ("N", 4, 3)], torch.matmul, {"wrt": 1}),
    ("matmul-heads", "MatMul", {}, [("N", 2, 5, 4), ("N", 2, 4, 5)], torch.matmul, {"wrt": 1}),
    ("matmul-broadcast-left", "MatMul", {}, [("N", 1, 5, 4), (3, 4, 2)], torch.matmul),
    ("matmul-broadcast-right", "MatMul", {}, [("N", 3, 5, 4), ("N", 1, 4, 2)], torch.matmul, {"wrt": 1}),
    ("matmul-broadcast-matrix", "MatMul", {}, [("N", 4), (3, 4, 2)], torch.matmul),
    ("matmul-half", "MatMul", {}, [X, (4, 3)], torch.matmul, HALF),
    ("matmul-vector", "MatMul", {}, [X, (4,)], torch.matmul),
    ("matmul-vector-half", "MatMul", {}, [X, (4,)], torch.matmul, HALF),
    ("matmul-vector-left", "MatMul", {}, [(5,), X], torch.matmul, {"wrt": 1}),
    *(
        vector(name, text, *shapes, wrt)
        for name, text, *shapes in (
            ("vectors", "MatMul(x, v)", "4", "4"),
            ("vector-first", "MatMul(x, v)", "4", "2,3,4,5"),
            ("vector-last", "MatMul(x, v)", "2,3,5,4", "4"),
        )
        for wrt in (0, 1)
    ),
    *(("det-" + str(n), "Det", {}, [("N", 2, n, n)], torch.linalg.det, {"opset": 22}) for n in (1, 2, 3, 4)),
    ("gemm", "Gemm", {"transB": 1}, [("N", 4), (3, 4), (3,)], gemm(trans_b=1)),
    ("gemm-no-bias", "Gemm", {}, [("N", 4), (4, 3)], gemm()),
    ("gemm-bias", "Gemm", {}, [("N", 4), (4, 3), ("N", 3)], gemm(), {"wrt": 2}),
    ("gemm-bias-beta", "Gemm", {"beta": 0.4}, [("N", 4), (4, 3), ("N", 1)], gemm(beta=0.4), {"wrt": 2}),
    ("gemm-half", "Gemm", {"transB": 1}, [("N", 4), (3, 4), (3,)], gemm(trans_b=1), HALF),
    *(
        (
            f"gemm-trans-{a}{b}",
            *("Gemm", {"alpha": 0.7, "beta": 0.3, "transA": a, "transB": b}),
            [(5, "N") if a else ("N", 5), (3, 5) if b else (5, 3), (3,)],
            gemm(0.7, 0.3, a, b),
        )
        for a, b in itertools.product((0, 1), (0, 1))
    ),
    *(
        (
            f"gemm-right-trans-{a}{b}",
            *("Gemm", {"alpha": 0.7, "transA": a, "transB": b}),
            [(5, 6) if a else (6, 5), ("N", 5) if b else (5, "N")],
            *(gemm(0.7, 1, a, b), {"wrt": 1}),
        )
        for a, b in itertools.product((0, 1), (0, 1))
    ),
    ("einsum", "Einsum", {"equation": "nij,jk->nik"}, [X, (4, 3)], einsum("nij,jk->nik")),
    ("einsum-right", "Einsum", {"equation": "ij, njk -> nik"}, [(3, 5), X], einsum("ij,njk->nik"), {"wrt": 1}),
    (
        *("einsum-attention", "Einsum", {"equation": "bhid,bhjd->bhij"}),
        *([("N", 2, 5, 4), ("N", 2, 3, 4)], einsum("bhid,bhjd->bhij"), {"wrt": 1}),
    ),
    *einsum_cases("nij,jk", [X, (4, 3)], 0),
    *einsum_cases("nij", [X], 0, name="implicit"),
    *einsum_cases("...ij,jk->...ik", [("N", 3, 5, 4), (4, 3)], 0),
    *einsum_cases("...,...", [X, (1, 5, 1)], 0),
    *einsum_cases("...i,...i->...", [X, ("N", 1, 4)], 0, 1),
    *einsum_cases("nij,nk->nik", [X, ("N", 3)], 0, 1),
    *einsum_cases("nij->", [X], 0),
    *einsum_cases("nii->ni", [SQUARE], 0),
    *einsum_cases("nii->n", [SQUARE], 0),
    *einsum_cases("nii,ik->nk", [SQUARE, (4, 3)], 0),
    *einsum_cases("nii,nij->nj", [SQUARE, SQUARE], 1),
    *einsum_cases("niii->ni", [("N", 3, 3, 3)], 0),
    *einsum_cases("ij,ij->ij", [("N", 3), ("N", 1)], 0, 1),
    *einsum_cases("ij,ij->i", [("N", 3), ("N", 1)], 0, 1),
    *einsum_cases("ij,jk,kl->il", [("N", 4), (4, 5), (5, 3)], 0),
    ("einsum-transpose", "Einsum", {"equation": "nij->nji"}, [X], einsum("nij->nji")),
    ("einsum-outer", "Einsum", {"equation": "ni,nj->nij"}, [("N", 4), ("N", 3)], einsum("ni,nj->nij")),
]


def test_gradient(case, check):
    check(*case)


def test_a_diagonal_along_the_batch_is_refused(refused):
    text = 'agraph (float[N,N] x) => (float[N] y) {y = Einsum<equation = "ii->i">(x)}'
    assert "a diagonal along the batch" in refused(text)


def test_a_large_determinant_is_refused(refused):
    assert "a determinant of more than" in refused("agraph (float[N,5,5] x) => (float[N] y) {y = Det(x)}")
