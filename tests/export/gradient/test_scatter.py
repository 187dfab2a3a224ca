import numpy as np
import pytest
import torch

from fusioncam.errors import UnsupportedOperatorError

OF_TORCH = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
PLACES = np.array([[0, 1], [2, -1], [1, 5], [0, -2]])
AGAIN = np.array([[0, 1], [2, -1], [0, 1], [2, 5], [0, 1]])


def text(body, shape="N,3,6", new="N,3,4"):
    """A model of data, new elements, and positions p from -3 to 2."""
    return f"""agraph (float[{shape}] x, float[{new}] u, float[{new}] p) => (float y)
    <float low = {{-3}}, float high = {{2}}, int64[1] two = {{2}}, int64[1] last = {{-1}}>
    {{c = Clip(p, low, high) r = Round(c) i = Cast<to = 7>(r) {body}}}"""


def at(p, size=6):
    return p.detach().clamp(-3, 2).round().long() % size


def elements(how):
    body = f'y = ScatterElements<axis = 2, reduction = "{how}">(x, i, u)'
    if how == "none":
        return text(body), {}, None, in_turn
    return text(body), {}, None, lambda x, u, p: x.scatter_reduce(2, at(p), u, OF_TORCH[how])


def in_turn(x, u, p):
    for k in range(u.shape[2]):  # the last that is written is left
        x = x.scatter(2, at(p)[..., k : k + 1], u[..., k : k + 1])
    return x


def many(how):
    def function(x, index, u):
        flat = (index[:, 0] * 6 + index[:, 1] % 6)[:, None].expand(-1, x.shape[-1])
        y = x.reshape(18, -1)
        y = y.scatter(0, flat, u) if how == "none" else y.scatter_reduce(0, flat, u, OF_TORCH[how])
        return y.reshape(x.shape)

    return function


def one_of_many(x, index, u):
    for k in range(len(index)):
        x = x.index_put((index[k, :1], index[k, 1:]), u[k : k + 1])
    return x


def cache(mode):
    head = "float[N,2,6,3] x, float[N,2,2,3] u, float[N] p) => (float y) <float four = {4}, float zero = {0}>"
    last = 5 if mode == "circular" else 4
    return f"""agraph ({head.replace("{4}", f"{{{last}}}")} {{
    a = Abs(p) m = Add(a, four) c = Min(m, four) i = Cast<to = 7>(c) y = TensorScatter<mode = "{mode}">(x, u, i)}}"""


def in_cache(mode):
    def function(x, u, p):
        start = 5 if mode == "circular" else 4
        y = x.clone()
        y[:, :, start] = u[:, :, 0]
        y[:, :, (start + 1) % 6] = u[:, :, 1]
        return y

    return function


def halves(x):
    return np.round(x) / 2


CASES = [
    *(
        (f"elements-{how}-{name}", *elements(how), {"wrt": wrt, "at": halves})
        for how in ("none", *OF_TORCH)
        for wrt, name in enumerate(("data", "new"))
    ),
    *(
        (
            *(f"many-{how}-{name}", "ScatterND", {"reduction": how}),
            [(3, 6, "N"), places, (len(places), "N")],
            *(many(how), {"wrt": wrt, "at": halves}),
        )
        for how, places in (("none", PLACES), *((how, AGAIN) for how in OF_TORCH))
        for wrt, name in ((0, "data"), (2, "new"))
    ),
    ("many-twice", "ScatterND", {}, [(3, 6, "N"), AGAIN, (5, "N")], one_of_many, {"wrt": 2}),
    (
        "elements-of-the-largest",
        text("t, j = TopK<axis = 2>(x, two) m = Mul(t, t) y = ScatterElements<axis = 2>(x, j, m)"),
        *({}, None, lambda x, u, p: x.scatter(2, x.topk(2).indices, x.topk(2).values ** 2)),
    ),
    *(
        (
            f"cache-{mode}-{name}",
            *(cache(mode), {}, None, in_cache(mode), {"wrt": wrt, "opset": 24}),
        )
        for mode in ("linear", "circular")
        for wrt, name in enumerate(("past", "new"))
    ),
    (
        "gather-elements",
        *(text("y = GatherElements<axis = 2>(x, i)"), {}, None, lambda x, u, p: x.gather(2, at(p))),
    ),
    (
        "gather-elements-int32",
        text("j = Cast<to = 6>(i) y = GatherElements<axis = 2>(x, j)"),
        *({}, None, lambda x, u, p: x.gather(2, at(p))),
    ),
    (
        "gather-elements-fewer",
        text("y = GatherElements<axis = 2>(x, i)", new="N,2,4"),
        *({}, None, lambda x, u, p: x.gather(2, at(p))),
    ),
    (
        "gather-elements-of-the-largest",
        text(
            "t = ReduceMax<keepdims = 0>(x, last) v, j = TopK<axis = 1>(t, two) k = Unsqueeze(j, last)"
            "ones = Constant<value_ints = [1, 1, 6]>() l = Tile(k, ones) y = GatherElements<axis = 1>(x, l)"
        ),
        *({}, None, lambda x, u, p: x.gather(1, x.amax(-1).topk(2, 1).indices[..., None].expand(-1, -1, 6))),
    ),
    (
        "gather-elements-half",
        text("g = GatherElements<axis = 2>(h, i) f = Cast<to = 1>(g) y = Mul(f, f)").replace(
            "c = Clip", "h = Cast<to = 10>(x) c = Clip"
        ),
        *({}, None, lambda x, u, p: x.gather(2, at(p)) ** 2, {"at": halves}),
    ),
    (
        "gather-nd-batch",
        text("k = Unsqueeze(i, last) y = GatherND<batch_dims = 2>(x, k)", shape="N,3,6,5"),
        *({}, None, lambda x, u, p: x.gather(2, at(p)[..., None].expand(-1, -1, -1, 5))),
    ),
    (
        "gather-nd-two-axes",
        text("k = Reshape(i, shape) y = GatherND<batch_dims = 1>(x, k)").replace(
            "<float low", "<int64[3] shape = {0, -1, 2}, float low"
        ),
        *({}, None, lambda x, u, p: pairs(x, p)),
    ),
]


def pairs(x, p):
    index = p.detach().clamp(-3, 2).round().long().reshape(len(p), -1, 2)
    rows = torch.arange(len(p))[:, None]
    return x[rows, index[..., 0] % 3, index[..., 1] % 6]


def test_gradient(case, check):
    check(*case)


def test_rows_of_a_batch_are_picked_by_their_numbers(harness):
    # TensorRT-RTX lacks the ScatterElements that adds, which a choice along the batch needs.
    body = """b = Shape<end = 1>(x) n = Squeeze(b) q = Range(zero, n, one) rows = Unsqueeze(q, last)
    d = ReduceMax<keepdims = 0>(i, axes) e = Unsqueeze(d, last) k = Concat<axis = 1>(rows, e) y = GatherND(x, k)"""
    model = text(body).replace("<float low", "<int64 zero = {0}, int64 one = {1}, int64[2] axes = {1, 2}, float low")

    def function(x, u, p):
        return x[torch.arange(len(x)), p.detach().clamp(-3, 2).round().long().amax((1, 2)) % 3]

    harness.check(model, {}, None, function, at=halves)


def test_many_positions_are_added_one_by_one(harness):
    # A one-hot tensor would take 2 GB.
    model = text("y = GatherElements<axis = 1>(x, i)", shape="N,9000,256", new="N,300,256")
    both = harness.differentiate(harness.parse(model), "x")
    assert harness.emitted(both)[-1] == "ScatterElements"


def test_the_largest_in_float16_is_refused(harness):
    operands = [("N", 3, 6), np.zeros((1, 3, 6), np.int64), (1, 3, 6)]
    model = harness.model_of("ScatterElements", {"reduction": "max"}, operands, dtype=np.float16)
    with pytest.raises(UnsupportedOperatorError, match=r"ScatterElements .*float16"):
        harness.differentiate(model, "x0")
