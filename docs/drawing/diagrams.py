"""The diagrams: what goes where."""

from collections.abc import Callable

from drawing.vector import Arrow, Box, diagram


def overview(_: object) -> str:
    """From a model to a map."""
    boxes = [
        Box(16, 60, 116, 64, ("model.onnx", "your classifier")),
        Box(188, 60, 104, 64, ("export", "once"), "ours"),
        Box(348, 16, 176, 152, (), "none"),
        Box(348, 20, 176, 26, ("model.fcam",), "words"),
        Box(360, 48, 152, 30, ("explain.onnx",)),
        Box(360, 86, 152, 30, ("score.onnx",)),
        Box(360, 124, 152, 30, ("weights, manifest",)),
        Box(580, 60, 104, 64, ("runtime", "per picture"), "ours"),
        Box(740, 60, 92, 64, ("maps", "H x W, 0..1")),
        Box(574, 176, 116, 40, ("picture",)),
    ]
    arrows = [
        Arrow([(132, 92), (186, 92)]),
        Arrow([(292, 92), (346, 92)]),
        Arrow([(524, 92), (578, 92)]),
        Arrow([(684, 92), (738, 92)]),
        Arrow([(632, 176), (632, 126)]),
    ]
    return diagram(848, 232, "A model is exported once; the bundle explains pictures", boxes, arrows)


def gradient(_: object) -> str:
    """The gradient of the graph, as nodes of the same graph."""
    names = ("Conv ... Relu", "ReduceMean", "Reshape", "Gemm")
    forward = [Box(24 + 196 * i, 24, 160, 44, (name,)) for i, name in enumerate(names)]
    back = ("Div, Expand", "Reshape", "Gemm (transB)")
    backward = [Box(220 + 196 * i, 152, 160, 44, (name,), "ours") for i, name in enumerate(back)]
    rest = [
        Box(24, 152, 160, 44, ("gradients",), "warm"),
        Box(840, 24, 110, 44, ("logits",), "warm"),
        Box(834, 152, 122, 44, ("class, one-hot",)),
        Box(24, 88, 160, 40, ("activations",), "warm"),
    ]
    arrows = [Arrow([(184 + 196 * i, 46), (218 + 196 * i, 46)]) for i in range(3)]
    arrows += [Arrow([(772, 46), (838, 46)]), Arrow([(104, 68), (104, 86)]), Arrow([(895, 68), (895, 150)], "")]
    arrows += [Arrow([(834, 174), (774, 174)]), Arrow([(612, 174), (578, 174)]), Arrow([(416, 174), (382, 174)])]
    arrows += [Arrow([(220, 174), (186, 174)])]
    title = "Forward nodes above, the nodes that export appends below, in reverse"
    return diagram(966, 216, title, [*forward, *backward, *rest], arrows)


def service(_: object) -> str:
    """Draw the way of a request."""
    boxes = [
        Box(16, 64, 104, 56, ("client", "tritonclient")),
        Box(176, 64, 104, 56, ("nginx", "TLS, limits")),
        Box(336, 64, 132, 56, ("HTTP", "checks, decoding"), "ours"),
        Box(524, 64, 116, 56, ("queue", "bounded"), "ours"),
        Box(696, 64, 132, 56, ("chunks", "filled across"), "ours"),
        Box(696, 152, 132, 40, ("onnxruntime",)),
        Box(336, 152, 132, 40, ("/metrics",), "plain"),
    ]
    arrows = [
        Arrow([(120, 92), (174, 92)]),
        Arrow([(280, 92), (334, 92)]),
        Arrow([(468, 92), (522, 92)]),
        Arrow([(640, 92), (694, 92)]),
        Arrow([(762, 120), (762, 150)]),
        Arrow([(402, 120), (402, 150)]),
        Arrow([(582, 64), (582, 32), (68, 32), (68, 62)], "503 + Retry-After when full", True),
    ]
    return diagram(844, 208, "The way of a request through the service", boxes, arrows)


DIAGRAMS: dict[str, Callable[[object], str]] = {
    "overview.svg": overview,
    "gradient.svg": gradient,
    "service.svg": service,
}
