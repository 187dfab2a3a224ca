"""The function that closes maps of classes, which is taken off: a Softmax, LogSoftmax or Sigmoid over the classes."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from fusioncam.export.endings import ModelEnding
from fusioncam.export.endings.readings import log_of, logit_of
from fusioncam.export.gradient import dims
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Ending

CLOSING: dict[str, Ending] = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
KEEPING = ("Identity", "Dropout", "Cast")
MOVING = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather")  # then the axis of classes may be another
MIXING = ("Transpose", "Resize", "Clip", "AveragePool")  # of which results are no larger, and no smaller
SUMMED = 1e-3  # how far the sum of probabilities may be from 1
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


def probable(ending: ModelEnding, maps: Array, wanted: Ending | None) -> ModelEnding:
    """Return the ending of maps that are probabilities, of which no function could be taken off: log p is explained.

    Of a sigmoid it is log p / (1 - p). Maps of which nothing is known but that they were seen within 0..1 stay as they
    are, and the ending says so.

    Args:
        ending: What was found so far.
        maps: The maps for some pictures, (N, C, ...).
        wanted: The ending that the user names.
    """
    if ending.ending != "logits" or maps.min() < 0 or maps.max() > 1:
        return ending
    if maps.shape[1] > 1 and np.abs(maps.sum(axis=1) - 1).max() <= SUMMED:
        text = "probabilities whose logits are out of reach: log p is explained"
        return replace(ending, ending="softmax", text=text, make=log_of(), reach="out_of_reach")
    if wanted == "sigmoid" or _is_squashed(ending.value):
        text = "probabilities, each by itself, whose logits are out of reach: log p / (1 - p) is explained"
        return replace(ending, ending="sigmoid", text=text, make=logit_of(), reach="out_of_reach")
    text = "logits, though all within 0..1: if they are probabilities, say --ending sigmoid"
    return replace(ending, text=text, reach="doubtful")


def _is_squashed(value: ir.Value) -> bool:
    """Return whether a tensor is made of the results of a Sigmoid, by operators that keep them within 0..1."""
    while (node := value.producer()) is not None and node.inputs and node.inputs[0] is not None:
        if node.op_type == "Sigmoid":
            return True
        if node.op_type not in (*KEEPING, *MOVING, *MIXING):
            return False
        value = node.inputs[0]
    return False
