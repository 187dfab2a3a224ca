"""The inspection of a model: layers that could explain it, their cost, and the operators without a rule."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fusioncam.errors import ModelError, UnsupportedOperatorError
from fusioncam.export.canonical import canonicalize
from fusioncam.export.checking.liveness import live_levels, why_dead
from fusioncam.export.free_size import USUAL_SIDE, asked_size
from fusioncam.export.gradient import WAY_OUT, operator_name, path, unsupported
from fusioncam.export.layers.choice import Candidate, survey
from fusioncam.export.layers.cost import Cost, chunk_bytes, cost, seconds_per_pass
from fusioncam.export.model import CanonicalModel
from fusioncam.export.options import Size
from fusioncam.export.reading.folder import model_file
from fusioncam.input_values import InputValues


@dataclass(frozen=True)
class Inspection:
    """The layers of a model, as `inspect_model` returns them.

    Attributes:
        classifier: The model in canonical form, whatever its task.
        layers: Every candidate layer with the predicted cost of an explanation by it.
        default: The candidate `export_model` takes when not told otherwise, or None.
        reason: The reason why there is no default, or None.
        missing: Operators between image and logits that have no gradient rule, and how often each occurs.
        way_out: The remedy for layers that are refused for a missing rule, or None where there are none.
        remarks: Sentences a user should know of the default.
        levels: Candidates that `export_model` takes together for a detector, of which the first is the default; none
            where one layer explains the model.
    """

    classifier: CanonicalModel
    layers: list[tuple[Candidate, Cost]]
    default: Candidate | None
    reason: str | None
    missing: Mapping[str, int]
    way_out: str | None
    remarks: tuple[str, ...] = ()
    levels: tuple[Candidate, ...] = ()


def inspect_model(
    model: str | os.PathLike[str],
    *,
    size: Size | None = None,
    output: str | None = None,
    task: str | None = None,
    reader: str | None = None,
    layout: str | None = None,
    image: str | None = None,
    inputs: InputValues | None = None,
) -> Inspection:
    """List the layers that could explain a model, and their cost.

    Args:
        model: The ONNX file, or a folder that holds it as `model.onnx` or `onnx/model.onnx`, or holds no other.
        size: (H, W) of the input, for a model that leaves them open, or as for `export_model`.
        output: The output to explain, where there are several.
        task: What the model does, as for `export_model`.
        reader: The name of the reader of the output, as for `export_model`.
        layout: `nchw` or `nhwc`, for a model whose shapes do not say which axis holds the channels.
        image: The input that is explained, where several can be.
        inputs: Values of other inputs, as for `export_model`.

    Raises:
        ModelError: The file cannot be read or takes no image.
        UsageError: An argument does not fit the model, or an input of it must be frozen.
    """
    numbers, free = asked_size(size)
    side = USUAL_SIDE if free else None
    canonical = canonicalize(model_file(Path(model)), numbers, output, None, task, reader, side, layout, image, inputs)
    surveyed = survey(canonical)
    seconds, most = seconds_per_pass(canonical), chunk_bytes(canonical)
    missing = Counter(operator_name(n) for n in unsupported(path(canonical.image, canonical.output)))
    way_out = WAY_OUT if any(c.without_rule for c in surveyed.candidates) else None
    levels: list[Candidate] = []
    try:
        levels = live_levels(canonical, surveyed)
        default, reason = levels[0] if levels else surveyed.choose_live(lambda c: why_dead(canonical, c)), None
    except ModelError as error:
        default, reason = None, str(error)
        if isinstance(error, UnsupportedOperatorError):  # by a rule that does not take this use of the operator
            missing, way_out = missing | Counter([error.operator]), WAY_OUT
    remarks = () if default is None or levels else surveyed.describe(default, by_default=True).remarks
    costs = [(c, cost(c, seconds, most)) for c in surveyed.candidates]
    return Inspection(canonical, costs, default, reason, missing, way_out, remarks, tuple(levels))
