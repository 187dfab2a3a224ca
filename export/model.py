"""A model in canonical form, as all later steps of an export take it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from fusioncam.detector import Detector
from fusioncam.export.endings import ModelEnding
from fusioncam.export.readers import Reading
from fusioncam.export.reading.further_inputs import further_inputs
from fusioncam.export.reading.image_input import ImageInput
from fusioncam.export.targets import Scoring
from fusioncam.forms import Form, Task, form_of
from fusioncam.further_inputs import FurtherInput
from fusioncam.kernels.arrays import Array, Size
from fusioncam.manifest import Ending


@dataclass
class CanonicalModel:
    """A model in canonical form.

    Attributes:
        model: Its graph has the input `image` (N, C, H, W), and as output the normal form of its task, both float32.
            Further inputs have a row for each picture, too.
        whole: The same with the prototypes of instance masks (N, P, h, w), float32, as a second output; `model` itself
            where it gives none.
        taken: The image input as it is in the source.
        frozen: Values of the source's inputs that are constants here, by name.
        reading: The output of the source that is explained, and the way to read it.
        task: What the model does.
        classes: Number of logits or values; the length of an embedding.
        map_size: (h, w) of the maps of classes, or None.
        detector: The boxes of a detector, or None.
        ending: How the logits become probabilities, by the user, else by the source, else by a configuration beside it;
            `value` where they are values: of a regression, of heat maps, of an embedding.
        source: The operators of the source after the logits.
        outputs: Numbers the source gives for a picture, or for a place of it: as many as classes, or 1. One output z,
            of a binary model or a regression, has two classes, of the logits -z and z: the evidence against it and the
            evidence for it.
        class_vectors: Whether the source gives an embedding, of which vectors of classes make the logits.
        precision: Type the weights are kept in.
        dynamic: Whether the source quantises by the range of a whole batch, here by that of each picture.
    """

    model: ir.Model
    whole: ir.Model
    taken: ImageInput
    frozen: Mapping[str, Array]
    reading: Reading
    task: Task
    classes: int
    map_size: tuple[int, int] | None
    detector: Detector | None
    ending: Ending
    source: ModelEnding
    outputs: int
    class_vectors: bool
    precision: Literal["float32", "float16"]
    dynamic: bool

    @property
    def size(self) -> Size:
        """Return (H, W) of the image."""
        return self.taken.size

    @property
    def shape(self) -> Size:
        """Return (C, H, W) of the image."""
        return (self.taken.channels, *self.taken.size)

    @property
    def image(self) -> ir.Value:
        """Return the input of the graph that is explained."""
        return self.model.graph.inputs[0]

    @property
    def further(self) -> tuple[FurtherInput, ...]:
        """Return the further inputs of the graph, beside the image."""
        return further_inputs(self.model)

    @property
    def output(self) -> ir.Value:
        """Return the output of the graph, the normal form."""
        return self.model.graph.outputs[0]

    @property
    def form(self) -> Form:
        """Return the normal form, and the tensors of its targets."""
        return form_of(self.task, self.classes, self.map_size, self.detector)

    @property
    def scoring(self) -> Scoring:
        """Return the way from the normal form to scores and confidences."""
        return Scoring(self.form, self.ending)
