"""The function that closes maps of classes, which is taken off: a Softmax, LogSoftmax or Sigmoid over the classes."""

import onnx_ir as ir

from fusioncam.export.endings import ModelEnding
from fusioncam.export.gradient import dims
from fusioncam.manifest import Ending

CLOSING: dict[str, Ending] = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
KEEPING = ("Identity", "Dropout", "Cast")
MOVING = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather")  # then the axis of classes may be another
BEST = ", of which the model gives the best class only (ArgMax)"


def find_map_ending(value: ir.Value, classes: int | None, argmax: bool) -> ModelEnding:
    """Take off the function that a model applies to the logits of its maps, and return the ending.

    A Softmax and a Sigmoid keep the shape, so what follows them (a Transpose, a Squeeze) stays in place.

    Args:
        value: The maps, measured; the graph is changed where a function is taken off.
        classes: Their axis of classes, or None for maps of one class.
        argmax: Whether the source gives only the best class of these maps.
    """
    best = BEST if argmax else ""
    axis, output = classes, value
    while (node := output.producer()) is not None and node.inputs and (x := node.inputs[0]) is not None:
        kind = node.op_type
        if kind == "Sigmoid" or (kind in CLOSING and node.attributes.get_int("axis", -1) % len(dims(x)) == axis):
            if output is value:
                value = x
            else:
                output.replace_all_uses_with(x)
            return ModelEnding(value, CLOSING[kind], CLOSING[kind] + best, logarithm=kind == "LogSoftmax")
        if kind == "Transpose" and axis is not None:
            axis = node.attributes["perm"].as_ints()[axis]
        elif kind in MOVING:
            axis = None
        elif kind not in (*KEEPING, "Transpose"):
            break
        output = x
    return ModelEnding(value, "logits", "logits" + best)
