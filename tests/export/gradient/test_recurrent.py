"""RNN, GRU and LSTM against their definition by ONNX, written in torch step by step."""

import torch
import torch.nn.functional as fn

T, C, H = 5, 3, 4
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
USUAL = {"RNN": (torch.tanh,), "GRU": (torch.sigmoid, torch.tanh), "LSTM": (torch.sigmoid, torch.tanh, torch.tanh)}


def cell_of(kind, f, w, r, bias, peepholes, options):
    """The state, and the cell state, after one step."""
    wb, rb = bias.chunk(2) if bias is not None else (0, 0)
    clip = options.get("clip", torch.inf)
    f = [*(lambda z, f=f: f(z.clamp(-clip, clip)) for f in f[:2]), *f[2:]]  # onnxruntime leaves the cell state as it is

    def rnn(x, h, c):
        return f[0](x @ w.T + wb + h @ r.T + rb), c

    def gru(x, h, c):
        xu, xr, xn = (x @ w.T + wb).chunk(3, -1)
        ru, rr, rn = r.chunk(3)
        bu, br, bn = rb.chunk(3) if bias is not None else (0, 0, 0)
        u, reset = f[0](xu + h @ ru.T + bu), f[0](xr + h @ rr.T + br)
        after = reset * (h @ rn.T + bn) if options.get("linear_before_reset") else (reset * h) @ rn.T + bn
        return (1 - u) * f[1](xn + after) + u * h, c

    def lstm(x, h, c):
        i, o, forget, g = (x @ w.T + wb + h @ r.T + rb).chunk(4, -1)
        pi, po, pf = peepholes.chunk(3) if peepholes is not None else (0, 0, 0)
        i, g = f[0](i + pi * c), f[1](g)
        forget = 1 - i if options.get("input_forget") else f[0](forget + pf * c)
        c = forget * c + i * g
        return f[0](o + po * c) * f[2](c), c

    return {"RNN": rnn, "GRU": gru, "LSTM": lstm}[kind]


def definition(kind, given, lengths, functions, options):
    """The function of the tensors that are `given`, by name; all outputs in one, (T + 1 or T + 2, D, N, H)."""
    direction = options.get("direction", "forward")

    def function(*arrays):
        v = dict(zip(given, arrays, strict=True))
        x, outputs, last = v["x"], [], []
        for d in range(len(v["w"])):
            steps = range(len(x))[:: -1 if d or direction == "reverse" else 1]
            own = {k: t[d] for k, t in v.items() if k != "x"}
            f = functions[d * len(functions) // len(v["w"]) :]
            step = cell_of(kind, f, own["w"], own["r"], own.get("b"), own.get("p"), options)
            nothing = x.new_zeros(x.shape[1], H)
            h, c, states = own.get("h", nothing), own.get("c", nothing), {}
            for t in steps:
                valid = torch.tensor([[t < (3 - i if lengths else len(x))] for i in range(len(h))])
                after = step(x[t], h, c)
                h, c = (torch.where(valid, new, old) for new, old in zip(after, (h, c), strict=True))
                states[t] = torch.where(valid, h, 0)
            outputs.append(torch.stack([states[t] for t in range(len(x))]))
            last.append([h, c][: 1 + (kind == "LSTM")])
        last = [torch.stack(states)[None] for states in zip(*last, strict=True)]
        return torch.cat([torch.stack(outputs, 1), *last])

    return function


# 3 steps for the first picture, 2 for the second, 1 for the third
LENGTHS = """n = Shape<start = 1, end = 2>(x) m = Squeeze(n) end = Sub(most, m)
    q = Range(most, end, step) l = Cast<to = 6>(q)"""


def model(kind, given, lengths, attributes, directions, steps):
    g, d = GATES[kind] * H, directions
    shapes = {
        "x": f"{steps},N,{C}",
        "w": f"{d},{g},{C}",
        "r": f"{d},{g},{H}",
        "b": f"{d},{2 * g}",
        "h": f"{d},N,{H}",
        "c": f"{d},N,{H}",
        "p": f"{d},{3 * H}",
    }
    inputs = ", ".join(f"float[{shapes[k]}] {k}" for k in given)
    names = [k if k in given else "" for k in "xwrb"]
    names += ["l" if lengths else "", *(k if k in given else "" for k in ("hcp" if kind == "LSTM" else "h"))]
    more = ", l_c" if kind == "LSTM" else ""
    return (
        f"agraph ({inputs}) => (float y) <int64[1] first = {{0}}, int64 most = {{3}}, int64 step = {{-1}}>"
        f"{{{LENGTHS if lengths else ''}"
        f"s, l_h{more} = {kind}<hidden_size = {H}{attributes and ', ' + attributes}>({', '.join(names)})"
        f"e = Unsqueeze(l_h, first) {'k = Unsqueeze(l_c, first)' if more else ''}"
        f"y = Concat<axis = 0>(s, e{', k' if more else ''})}}"
    )


def recurrent(name, kind, wrt, given="xwrb", lengths=False, functions=None, attributes="", steps=T, **options):
    directions = 2 if options.get("direction") == "bidirectional" else 1
    words = [f'direction = "{v}"' if k == "direction" else f"{k} = {v}" for k, v in options.items()]
    text = model(kind, given, lengths, ", ".join([*words, *([attributes] if attributes else [])]), directions, steps)
    function = definition(kind, given, lengths, functions or USUAL[kind] * directions, options)
    return f"{kind.lower()}-{name}-by-{wrt}", text, {}, None, function, {"wrt": given.index(wrt), "opset": 22}


BOTH = {"direction": "bidirectional"}
REVERSE = {"direction": "reverse"}
CASES = [
    *(recurrent("plain", kind, wrt) for kind in GATES for wrt in "xwrb"),
    *(recurrent("one-step", kind, "x", steps=1) for kind in GATES),
    *(recurrent("two-ways", kind, wrt, "xwrbh", **BOTH) for kind in GATES for wrt in "xrbh"),
    *(recurrent("reverse", kind, "x", "xwr", **REVERSE) for kind in GATES),
    *(recurrent("clipped", kind, wrt, clip=0.4) for kind in GATES for wrt in "xr"),
    *(recurrent("reset-after", "GRU", wrt, "xwrbh", linear_before_reset=1, **BOTH) for wrt in "xwrbh"),
    *(recurrent("lengths", kind, wrt, "xwrbh", True, **BOTH) for kind in GATES for wrt in "xrbh"),
    *(recurrent("lengths", "LSTM", wrt, "xwrbhcp", True, **BOTH) for wrt in "xcp"),
    recurrent("lengths-reset-after", "GRU", "x", "xwr", True, linear_before_reset=1, **REVERSE),
    *(recurrent("peepholes", "LSTM", wrt, "xwrbhcp", **BOTH) for wrt in "xrbhcp"),
    *(recurrent("coupled", "LSTM", wrt, "xwrbhcp", input_forget=1) for wrt in "xcp"),
]
ACTIVATIONS = {
    "Relu": torch.relu,
    "LeakyRelu": lambda z: fn.leaky_relu(z, 0.3),
    "Elu": lambda z: fn.elu(z, 0.7),
    "ThresholdedRelu": lambda z: torch.where(z > 0.2, z, 0),
    "Softsign": fn.softsign,
    "Softplus": fn.softplus,
    "HardSigmoid": lambda z: (0.4 * z + 0.6).clamp(0, 1),
    "ScaledTanh": lambda z: 0.9 * torch.tanh(0.8 * z),
    "Affine": lambda z: 0.5 * z + 0.1,
}
PARAMETERS = {
    "LeakyRelu": ([0.3], []),
    "Elu": ([0.7], []),
    "ThresholdedRelu": ([0.2], []),
    "HardSigmoid": ([0.4], [0.6]),
    "ScaledTanh": ([0.9], [0.8]),
    "Affine": ([0.5], [0.1]),
}


LAST = f"""agraph (float[{T},N,{C}] x, float[1,{H},{C}] w, float[1,{H},{H}] r) => (float y)
    {{, y = RNN<hidden_size = {H}>(x, w, r)}}"""


def activated(kind, names, **options):
    """A case with the activation functions of these names, one after the other."""
    parameters = [PARAMETERS.get(n, ([], [])) for n in names]
    words = "activations = [" + ", ".join(f'"{n}"' for n in names) + "]"
    for what, which in (("alpha", 0), ("beta", 1)):
        numbers = [str(v) for p in parameters for v in p[which]]
        words += f", activation_{what} = [{', '.join(numbers)}]" if numbers else ""
    functions = [{**ACTIVATIONS, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid}[n] for n in names]
    return recurrent("-".join(names), kind, "x", functions=functions, attributes=words, **options)


CASES += [
    ("rnn-last-state", LAST, {}, None, lambda *v: definition("RNN", "xwr", False, USUAL["RNN"], {})(*v)[T]),
    *(activated("RNN", [name]) for name in ACTIVATIONS),
    activated("GRU", ["HardSigmoid", "LeakyRelu", "Sigmoid", "ScaledTanh"], **BOTH),
    activated("LSTM", ["HardSigmoid", "Affine", "Tanh", "Sigmoid", "ScaledTanh", "Elu"], **BOTH),
    activated("LSTM", ["HardSigmoid", "Tanh", "Softsign"], clip=0.4),
]


def test_gradient(case, check):
    check(*case)


def test_an_unknown_activation_is_refused(refused):
    text = """agraph (float[2,N,3] x) => (float y) <float[1,1,3] w = {1, 2, 3}, float[1,1,1] r = {1}>
        {y, h = RNN<hidden_size = 1, activations = ["Cosine"]>(x, w, r)}"""
    assert "the activation 'Cosine'" in refused(text)
