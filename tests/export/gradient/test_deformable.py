import itertools

import numpy as np
import torch
import torch.nn.functional as fn


def deformed(group=1, offset_group=1, stride=(1, 1), pads=(0, 0, 0, 0), dilation=(1, 1)):
    """A convolution of what grid_sample reads at the taps, each of them a point."""

    def function(x, w, offset, b, mask):
        (n, c, height, width), (kh, kw) = x.shape, w.shape[2:]
        oh, ow = offset.shape[2:]
        tap = torch.stack(torch.meshgrid(torch.arange(kh), torch.arange(kw), indexing="ij")).reshape(2, kh * kw, 1, 1)
        start = torch.stack(torch.meshgrid(torch.arange(oh), torch.arange(ow), indexing="ij")).reshape(2, 1, oh, ow)
        scales = [torch.tensor(v).reshape(2, 1, 1, 1) for v in (dilation, stride, pads[:2])]
        place = (tap * scales[0] + start * scales[1] - scales[2]).transpose(0, 1)
        place = offset.reshape(n * offset_group, kh * kw, 2, oh, ow) + place
        grid = torch.stack([2 * place[:, :, 1] / (width - 1) - 1, 2 * place[:, :, 0] / (height - 1) - 1], -1)
        picture = x.reshape(n * offset_group, c // offset_group, height, width)
        read = fn.grid_sample(picture, grid.reshape(n * offset_group, kh * kw * oh, ow, 2), align_corners=True)
        read = read.reshape(n * offset_group, -1, kh * kw, oh, ow) * mask.reshape(n * offset_group, 1, kh * kw, oh, ow)
        read = read.reshape(n, group, -1, oh, ow)
        return (
            torch.einsum("ngkhw,gok->ngohw", read, w.reshape(group, len(w) // group, -1)).flatten(1, 2)
            + b[:, None, None]
        )

    return function


def model(attributes, *shapes):
    given = ", ".join(
        f"float[{','.join(map(str, s))}] {n}" for s, n in zip(shapes, ("x", "w", "o", "b", "m"), strict=True)
    )
    options = ", ".join(f"{k} = {v}" for k, v in attributes.items())
    return f"agraph ({given}) => (float y) {{y = DeformConv{f'<{options}>' if options else ''}(x, w, o, b, m)}}"


FORMS = {
    "plain": ({}, (("N", 2, 5, 6), (3, 2, 2, 2), ("N", 8, 4, 5), (3,), ("N", 4, 4, 5)), deformed()),
    "options": (
        {"group": 2, "offset_group": 2, "strides": [2, 1], "pads": [1, 0, 1, 0], "dilations": [1, 2]},
        (("N", 4, 6, 7), (6, 2, 3, 2), ("N", 24, 3, 5), (6,), ("N", 12, 3, 5)),
        deformed(2, 2, (2, 1), (1, 0, 1, 0), (1, 2)),
    ),
}
CASES = [
    (f"{name}-by-{by}", model(attributes, *shapes), {}, None, function, {"wrt": wrt, "opset": 22})
    for (name, (attributes, shapes, function)), (wrt, by) in itertools.product(
        FORMS.items(), enumerate(("picture", "weights", "offset", "bias", "mask"))
    )
]
CASES.append(
    (
        *("alone", "DeformConv", {}, [("N", 2, 5, 6), (3, 2, 2, 2), ("N", 8, 4, 5)]),
        lambda x, w, o: deformed()(x, w, o, torch.zeros(3).to(x), torch.ones(len(x), 4, 4, 5).to(x)),
        {"opset": 22, "at": lambda x: np.clip(x, -1.5, 1.5)},
    )
)


def test_gradient(case, check):
    check(*case)
