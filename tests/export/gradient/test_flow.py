"""Gradients of If, Loop and Scan, whose bodies are differentiated, too."""

import torch

HEAD = (
    "agraph (float[N,4,5] x) => (float[N,A,B] y)"
    "<float[5] w = {1, -2, 0.5, 0.3, 0.7}, int64[1] zero = {0}, int64[1] ax = {1}, int64[1] e = {2}> "
)
W = (1, -2, 0.5, 0.3, 0.7)


def weights(x):
    return torch.tensor(W, dtype=x.dtype)


# Of an If, a condition on the batch: in one of the two the other branch is taken.
IF = HEAD + (
    "{s = Shape(x) n = Shape<start = 0, end = 1>(x) h = Exp(x) m = Sin(x) z = Squeeze(n)"
    "one = Constant<value_int = 1>() c = Equal(z, one) i, j = If(c) <"
    "then_branch = t () => (float[N,4,5] ti, float[N,4,5] tj) {tt = Mul(h, m) ti = Add(tt, w) tj = Identity(h)},"
    "else_branch = o () => (float[N,4,5] ei, float[N,4,5] ej) {ei = Mul(h, h) ej = Expand(w, s) }> y = Mul(i, j)}"
)


def branched(x):
    h = x.exp()
    return (h * x.sin() + weights(x)) * h if len(x) == 1 else h * h * weights(x)


NESTED_IF = HEAD + (
    "{yes = Constant<value = bool {1}>() h = Exp(x) y = If(yes) <"
    "then_branch = t () => (float[N,4,5] a) {b = Sin(h) a = If(yes) <"
    "then_branch = tt () => (float[N,4,5] c) {c = Mul(b, x)}, else_branch = te () => (float[N,4,5] d) {d = Neg(b)}>},"
    "else_branch = o () => (float[N,4,5] f) {f = Cos(h)}>}"
)

SCAN = HEAD + (
    "{s = ReduceMean<keepdims = 0>(x, ax) last, z = Scan<num_scan_inputs = 1, scan_input_axes = [1],"
    "scan_output_axes = [2] OPTIONS, body = b (float[N,5] a, float[N,5] r) => (float[N,5] c, float[N,5] d)"
    "{t = Mul(a, r) u = Add(t, w) v = Sin(u) c = Add(v, a) d = Exp(c)}>(s, x) l = Unsqueeze(last, e) y = Mul(z, l)}"
)


def scanned(read=1, written=1):
    def function(x):
        s, rows = x.mean(1), []
        for i in range(4)[::read]:
            s = torch.sin(s * x[:, i] + weights(x)) + s
            rows.append(s.exp())
        return torch.stack(rows[::written], -1) * s[..., None]

    return function


def directions(read, written):
    return SCAN.replace("OPTIONS", f", scan_input_directions = [{read}], scan_output_directions = [{written}]")


# Two states that change places, one that counts, one of constants alone that meets an operator without a rule.
STATES = HEAD + (
    "{s = ReduceMean<keepdims = 0>(x, ax) none = Constant<value_int = 0>() a1, b1, n1, k1 = Scan<num_scan_inputs = 1,"
    "scan_input_axes = [1], body = b (float[N,5] a, float[N,5] b, int64 n, float[5] k, float[N,5] r) =>"
    "(float[N,5] a2, float[N,5] b2, int64 n2, float[5] k2) {a2 = Mul(b, r) b2 = Identity(a)"
    "one = Constant<value_int = 1>() n2 = Add(n, one) f = Cast<to = 1>(n) bb = Add(b, f) k2 = RandomNormalLike(k)}>"
    "(s, s, none, w, x) y1 = Add(a1, b1) nf = Cast<to = 1>(n1) y2 = Mul(y1, nf) y = Unsqueeze(y2, ax)}"
)


def states(x):
    a = b = x.mean(1)
    for i in range(4):
        a, b = b * x[:, i], a
    return (4 * (a + b))[:, None]


LOOP = HEAD.replace(
    "{2}>", "{2}, float[N,4,5] p, float[N,4,5] q, float[3,N,4,5] z, float[N,4,5] zs, float[N,4,5] y>"
) + (
    "{m = Constant<value_int = 3>() yes = Constant<value = bool {1}>() h = Exp(x) p, q, z = Loop(m, yes, x, x) <"
    "body = b (int64 i, bool on, float[N,4,5] a, float[N,4,5] k) =>"
    "(bool go, float[N,4,5] c, float[N,4,5] k2, float[N,4,5] d)"
    "{go = Identity(on) f = Cast<to = 1>(i) t = Mul(a, h) u = Add(t, f) c = Sin(u) d = Mul(c, w) k2 = Identity(k)}>"
    "zs = ReduceSum<keepdims = 0>(z, zero) pq = Mul(p, q) y = Mul(pq, zs)}"
)


def looped(x):
    a, h, total = x, x.exp(), 0
    for i in range(3):
        a = torch.sin(a * h + i)
        total = total + a * weights(x)
    return a * x * total


# Ends when the smallest number of all is above 2.5: as many turns as the numbers say.
WHILE = HEAD + (
    "{yes = Constant<value = bool {1}>() one = Constant<value_float = 1.0>() x1 = Mul(x, x) x2 = Add(x1, one)"
    "y = Loop(, yes, x2) <body = b (int64 i, bool on, float[N,4,5] a) => (bool go, float[N,4,5] c)"
    "{d = Mul(a, a) f = Add(a, d) c = Sqrt(f) k = ReduceMin<keepdims = 0>(c) top = Constant<value_float = 2.5>()"
    "go = Less(k, top)}>}"
)


def while_below(x):
    a = x * x + 1
    while True:
        a = (a * a + a).sqrt()
        if a.min() >= 2.5:
            return a


# No turn where the mean is negative, else one: as many as the smallest whole number above it.
NONE = HEAD + (
    "{f = ReduceMean<keepdims = 0>(x) o = Ceil(f) m = Cast<to = 7>(o) yes = Constant<value = bool {1}>()"
    "y = Loop(m, yes, x) <body = b (int64 i, bool on, float[N,4,5] a) => (bool go, float[N,4,5] c)"
    "{go = Identity(on) k = Mul(a, w) c = Sin(k)}>}"
)

# A turn without a use of its state: the tape has the number of the turn alone.
LINEAR = HEAD + (
    "{m = Constant<value_int = 3>() yes = Constant<value = bool {1}>() y = Loop(m, yes, x) <"
    "body = b (int64 i, bool on, float[N,4,5] a) => (bool go, float[N,4,5] c) {go = Identity(on) c = Mul(a, w)}>}"
)

# A Scan in a Scan, whose inner one captures the outer's state and slice; and an If by the number of the turn.
NESTED = HEAD + (
    "{s = ReduceMean<keepdims = 0>(x, ax) m = Constant<value_int = 2>() yes = Constant<value = bool {1}>()"
    "last = Scan<num_scan_inputs = 1,"
    "scan_input_axes = [1], body = b (float[N,5] a, float[N,5] r) => (float[N,5] c) {"
    "c = Loop(m, yes, a) <body = inner (int64 i, bool on, float[N,5] p) => (bool go, float[N,5] q) {go = Identity(on)"
    "one = Constant<value_int = 1>() first = Less(i, one) t = If(first) <"
    "then_branch = t () => (float[N,5] ta) {ta = Mul(p, r)}, else_branch = o () => (float[N,5] tb) {tb = Sin(a)}>"
    "u = Add(t, w) v = Sin(u) q = Mul(v, p)}>}>(s, x) y = Unsqueeze(last, ax)}"
)


def nested(x):
    a = x.mean(1)
    for k in range(4):
        r, p = x[:, k], a
        for i in range(2):
            p = torch.sin((p * r if i < 1 else a.sin()) + weights(x)) * p
        a = p
    return a[:, None]


OF_WEIGHTS = (
    "agraph (float[N,4,5] x, float[5] v) => (float[N,A,B] y) {last, y = Scan<num_scan_inputs = 1,"
    "scan_input_axes = [1], scan_output_axes = [1], body = b (float[5] a, float[N,5] r) => (float[5] c, float[N,5] d)"
    "{d = Mul(r, a) c = Mul(a, v)}>(v, x)}"
)

CASES = [
    ("if", IF, {}, None, branched),
    ("if-nested", NESTED_IF, {}, None, lambda x: x.exp().sin() * x),
    ("scan", SCAN.replace("OPTIONS", ""), {}, None, scanned()),
    ("scan-axis-from-the-end", SCAN.replace("OPTIONS", "").replace("[2]", "[-1]"), {}, None, scanned()),
    ("scan-read-backwards", directions(1, 0), {}, None, scanned(-1)),
    ("scan-written-backwards", directions(0, 1), {}, None, scanned(1, -1)),
    ("scan-backwards", directions(1, 1), {}, None, scanned(-1, -1)),
    ("scan-states", STATES, {}, None, states),
    ("scan-by-initial-state", OF_WEIGHTS, {}, None,
     lambda x, v: torch.stack([x[:, i] * v ** (i + 1) for i in range(4)], 1), {"wrt": 1}),
    ("loop", LOOP, {}, None, looped),
    ("loop-while", WHILE, {}, None, while_below),
    ("loop-no-turn", NONE, {}, None, lambda x: 1 * x, {"at": lambda x: x - 1}),
    ("loop-one-turn", NONE, {}, None, lambda x: (x * weights(x)).sin(), {"at": lambda x: x / 9 + 0.5}),
    ("loop-linear", LINEAR, {}, None, lambda x: x * weights(x) ** 3),
    ("nested", NESTED, {}, None, nested),
]  # fmt: skip


def test_gradient(case, check):
    check(*case)


def test_an_operator_in_a_body_is_named_with_what_holds_it(refused):
    text = SCAN.replace("OPTIONS", "").replace("Exp(c)", "custom.Mystery(c)")
    assert "operator custom.Mystery (node 'd', in Scan 'last') has no gradient rule; choose" in refused(text)


def test_a_state_that_grows_is_refused(refused):
    text = HEAD + (
        "{m = Constant<value_int = 3>() y = Loop(m, , x) <body = b (int64 i, bool on, float[N,K,5] a) =>"
        "(bool go, float[N,M,5] c) {go = Identity(on) c = Concat<axis = 1>(a, x)}>}"
    )
    assert "operator Loop (node 'y') has no gradient rule: its state" in refused(text)
