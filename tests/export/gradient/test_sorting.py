import numpy as np
import torch

X = ("N", 3, 6)
WITH_ZEROS = {"at": lambda x: np.where(np.abs(x) < 0.4, 0, x), "opset": 26}


def flipped(function, axis):
    return lambda x, *_: function(x.flip(axis)).flip(axis)


def shifted(function, axis, fill):
    def shift(x, *_):
        first = torch.full_like(x.narrow(axis, 0, 1), fill)
        return torch.cat([first, function(x).narrow(axis, 0, x.shape[axis] - 1)], axis)

    return shift


def total(axis):
    return lambda x, *_: x.cumsum(axis)


def products(x, *_):
    return torch.stack([x[..., : i + 1].prod(-1) for i in range(x.shape[-1])], -1)


def turned(x, lengths):
    rows = [torch.cat([row[:n].flip(0), row[n:]]) for row, n in zip(x.swapaxes(0, 1), lengths.tolist(), strict=True)]
    return torch.stack(rows, 1)


def top_k(name, options, function):
    text = f"agraph (float[N,3,6] x) => (float y) <int64[1] k = {{2}}> {{y, i = TopK{options}(x, k)}}"
    return name, text, {}, None, function


def range_of(name, body, function):
    values = "<float zero = {0}, float one = {1}, float three = {2.5}>"
    return name, f"agraph (float x) => (float[M] y) {values} {{{body}}}", {}, None, function


def unique(name, options, function):
    return name, f"agraph (float[3,4] x) => (float y) {{y = Unique{options}(x)}}", {}, None, function, {}


HOT = torch.arange(5)[:, None] == torch.tensor([0, 4, 7])

CASES = [
    top_k("top-k", "<axis = -1>", lambda x: x.topk(2).values),
    top_k("top-k-axis", "<axis = 1, largest = 0>", lambda x: x.topk(2, 1, largest=False).values),
    ("cum-sum", "CumSum", {}, [X, np.array(2)], total(2)),
    ("cum-sum-reverse", "CumSum", {"reverse": 1}, [X, np.array(-2)], flipped(total(1), 1)),
    ("cum-sum-exclusive", "CumSum", {"exclusive": 1}, [X, np.array([1])], shifted(total(1), 1, 0)),
    (
        *("cum-sum-both", "CumSum", {"exclusive": 1, "reverse": 1}, [X, np.array(1)]),
        flipped(shifted(total(1), 1, 0), 1),
    ),
    ("triu", "Trilu", {}, [X], torch.triu),
    ("tril", "Trilu", {"upper": 0}, [X, np.array(1)], lambda x, _: x.tril(1)),
    ("triu-below", "Trilu", {}, [X, np.array(-1)], lambda x, _: x.triu(-1)),
    ("reverse-sequence", "ReverseSequence", {}, [(6, 3, "N"), np.array([4, 1, 6])], turned),
    (
        "one-hot",
        "agraph (float[2] x) => (float y) <int64[3] i = {0, -1, 7}, int64 d = {5}>{y = OneHot<axis = 0>(i, d, x)}",
        *({}, None, lambda x: torch.where(HOT, x[1], x[0])),
    ),
    range_of("range-start", "e = Add(x, three) y = Range(x, e, one)", lambda x: x + torch.arange(3)),
    range_of("range-step", "e = Mul(x, three) y = Range(zero, e, x)", lambda x: x * torch.arange(3)),
    unique("unique", "<sorted = 1>", lambda x: x.flatten().sort().values),
    unique("unique-unsorted", "<sorted = 0>", lambda x: x.flatten()),
    unique("unique-axis", "<axis = -1>", lambda x: x[:, x[0].argsort()]),
    ("cum-prod", "CumProd", {}, [X, np.array(2)], products, {"opset": 26}),
    ("cum-prod-zeros", "CumProd", {}, [X, np.array(-1)], products, WITH_ZEROS),
    (
        *("cum-prod-both", "CumProd", {"exclusive": 1, "reverse": 1}, [X, np.array(2)]),
        *(flipped(shifted(products, 2, 1), 2), WITH_ZEROS),
    ),
]


def test_gradient(case, check):
    check(*case)
