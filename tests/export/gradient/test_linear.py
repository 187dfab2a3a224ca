import itertools

import numpy as np
import pytest
import torch

X = ("N", 5, 4)
HALF = {"dtype": np.float16}


def gemm(alpha=1.0, beta=1.0, trans_a=0, trans_b=0):
    def function(a, b, c=0):
        return alpha * (a.T if trans_a else a) @ (b.T if trans_b else b) + beta * c

    return function


def einsum(equation):
    return lambda *operands: torch.einsum(equation, *operands)


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
    ("einsum-transpose", "Einsum", {"equation": "nij->nji"}, [X], einsum("nij->nji")),
    ("einsum-outer", "Einsum", {"equation": "ni,nj->nij"}, [("N", 4), ("N", 3)], einsum("ni,nj->nij")),
]


def test_gradient(case, check):
    check(*case)


@pytest.mark.parametrize("equation", ["nij,jk", "...ij,jk->...ik", "nii,ik->nk", "nij,nk->nik"])
def test_einsum_refuses(equation, refused):
    shape = "N,4,4" if "ii" in equation else "N,5,4"
    text = f'agraph (float[{shape}] x, float[4,4] w) => (float y) {{y = Einsum<equation = "{equation}">(x, w)}}'
    assert equation in refused(text)


def test_product_with_a_vector_is_refused(refused):
    assert "vector" in refused("agraph (float[N,4] x, float[4] w) => (float[N] y) {y = MatMul(x, w)}")


def test_einsum_refuses_operands_that_are_repeated(refused):
    text = 'agraph (float[N,1] x, float[N,3] w) => (float[N,3] y) {y = Einsum<equation = "ij,ij->ij">(x, w)}'
    assert "repeated along an axis" in refused(text)
