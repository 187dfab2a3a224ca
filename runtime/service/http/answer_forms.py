"""The forms of an answer, of which the header Accept chooses: tensors, a picture, or the maps alone."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from itertools import chain
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote as percent_encoded

import mimeparse
from starlette.exceptions import HTTPException

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import UInt8Array
from fusioncam.output import encode_png, encode_webp, write_npz
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.detection_pictures import panel_of_all
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.photos.display import drawable
from fusioncam.runtime.photos.model_input import unpreprocess
from fusioncam.runtime.photos.reading import picture_of
from fusioncam.runtime.picture import DrawOptions
from fusioncam.runtime.result_pictures import map_on_photo, panel_of
from fusioncam.runtime.service.protocol.instances import write_instances
from fusioncam.runtime.service.protocol.openapi import BINARY, JSON, NPZ, PNG, WEBP
from fusioncam.runtime.service.protocol.outputs import NO_MAPS, is_explained
from fusioncam.runtime.service.protocol.prepared_request import PreparedRequest
from fusioncam.runtime.service.protocol.query import Drawing
from fusioncam.runtime.service.protocol.schemas import InferRequest
from fusioncam.runtime.service.protocol.tensors import HEADER_LENGTH, Tensor
from fusioncam.runtime.service.served_model import ServedModel

MOST_NUMBERS = 1 << 22  # of maps as text, in an answer: some 80 MB
PREFIX = "Fusioncam-"  # of the names of headers
PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


@dataclass(frozen=True, eq=False)
class Answered:
    """A request that was explained.

    Attributes:
        model: The model.
        prepared: The request.
        of_pictures: The explanations of each picture.
        begun: Time of the request, in seconds of `time.monotonic()`.
        photo: The first photo's file, where the form of the answer shows it.
        max_pixels: The most pixels of a photo.
    """

    model: ServedModel
    prepared: PreparedRequest
    of_pictures: Sequence[Sequence[Explanation]]
    begun: float
    photo: bytes | None
    max_pixels: int

    @property
    def explanations(self) -> list[Explanation]:
        """Return the explanations of all pictures."""
        return list(chain(*self.of_pictures))

    @property
    def methods(self) -> list[str]:
        """Return the methods whose maps were asked for."""
        return [spec.name for spec in self.prepared.outputs if spec.name not in NO_MAPS]

    def pixels(self) -> tuple[UInt8Array, Preprocessing]:
        """Return the photo (H0, W0, 3), or what the model sees, and the way from there to the model's input."""
        preprocessing = self.explanations[0].preprocessing or self.model.manifest.preprocessing
        if self.photo is not None:
            values = picture_of(self.photo, "the picture", preprocessing, self.max_pixels, declared=True)
            return drawable(values, preprocessing), preprocessing
        seen = unpreprocess(self.prepared.jobs[0].image, preprocessing)
        return seen, preprocessing.model_copy(update={"resize": "squash", "crop_fraction": 1.0})


class Packed(NamedTuple):
    """An answer, ready to be sent.

    Attributes:
        content: The body.
        media_type: Its type; None where there is no body.
        headers: Headers of its own.
    """

    content: bytes
    media_type: str | None
    headers: dict[str, str]


class AnswerForm(Protocol):
    """A form of answers."""

    @property
    def shows_photo(self) -> bool:
        """Return whether the photo's file is needed for the answer."""

    def pictures_of_several(self, model: ServedModel) -> float:
        """Return the most pictures about which an answer may be, where each may have several targets."""

    def defaults(self, model: ServedModel, named: bool) -> dict[str, Any]:
        """Return the parameters that a request has where it says nothing, and whether it names methods."""

    def check(self, prepared: PreparedRequest) -> None:
        """Raise UsageError where a request has no answer of this form."""

    def pack(self, answered: Answered) -> Packed:
        """Return the answer to a request; to be called in a thread."""


@dataclass(frozen=True)
class TensorForm:
    """Tensors in JSON, or behind it.

    Attributes:
        binary: Whether they are behind it where the request says nothing.
    """

    binary: bool = False
    shows_photo: bool = False

    def pictures_of_several(self, model: ServedModel) -> float:
        """Return 1: the rows of tensors are targets of one picture, or pictures."""
        return 1

    def defaults(self, model: ServedModel, named: bool) -> dict[str, Any]:
        """Return the parameters that a request has where it says nothing, and whether it names methods."""
        return {"binary_data_output": True} if self.binary else {}

    def check(self, prepared: PreparedRequest) -> None:
        """Raise UsageError where the answer would be too much text."""
        _check_numbers(prepared, len(prepared.jobs))

    def pack(self, answered: Answered) -> Packed:
        """Return the outputs and parameters."""
        _check_numbers(answered.prepared, len(answered.explanations))
        content, length = answered.prepared.response(answered.model, answered.explanations, answered.begun)
        return Packed(content, JSON, {}) if length is None else Packed(content, BINARY, {HEADER_LENGTH: str(length)})


@dataclass(frozen=True)
class ShownForm:
    """An answer about one picture that is no JSON: the prediction travels in headers.

    Attributes:
        media_type: Its type.
        write: Makes the content.
        every_method: Whether a request that names no method gets the maps of the command line.
        shows_photo: Whether the photo's file is needed.
        is_panel: Whether several detections are shown, a row each.
    """

    media_type: str
    write: Callable[[Answered], bytes]
    every_method: bool
    shows_photo: bool
    is_panel: bool = False

    def pictures_of_several(self, model: ServedModel) -> float:
        """Return 1 where the panel shows all detections of a photo, else 0."""
        return int(self.is_panel and model.manifest.detector is not None)

    def defaults(self, model: ServedModel, named: bool) -> dict[str, Any]:
        """Return the parameters that a request has where it says nothing, and whether it names methods."""
        if named or not self.every_method:
            return {}
        return {"methods": ",".join(m for m in METHODS if m in model.methods)}

    def check(self, prepared: PreparedRequest) -> None:
        """Raise UsageError where a request is about several pictures, or asks for no map."""
        if len(prepared.jobs) != 1:
            raise UsageError(f"an answer as {self.media_type} is about one picture, not {len(prepared.jobs)}: send one")
        if all(spec.name in NO_MAPS for spec in prepared.outputs):
            raise UsageError(f"an answer as {self.media_type} shows maps: ask for a method")

    def pack(self, answered: Answered) -> Packed:
        """Return the picture or the maps, or no body where no map was made."""
        explanation = answered.explanations[0]
        headers = _headers(answered.prepared.parameters(explanation, answered.begun), explanation.class_index)
        if not is_explained(explanation):
            return Packed(b"", None, headers)
        return Packed(self.write(answered), self.media_type, headers)


@dataclass(frozen=True)
class InstancesForm:
    """Predictions, and explanations, as KServe's first protocol has them.

    Attributes:
        figures_only: Whether there are predictions only.
    """

    figures_only: bool
    shows_photo: bool = False

    def pictures_of_several(self, model: ServedModel) -> float:
        """Return infinity for a detector, as each instance has a list of detections; else 0."""
        return 0 if model.manifest.detector is None else math.inf

    def defaults(self, model: ServedModel, named: bool) -> dict[str, Any]:
        """Return the parameters that a request has where it says nothing, and whether it names methods."""
        return {}

    def check(self, prepared: PreparedRequest) -> None:
        """Raise UsageError where the answer would be too much text."""
        _check_numbers(prepared, len(prepared.jobs))

    def pack(self, answered: Answered) -> Packed:
        """Return predictions and explanations."""
        methods = None if self.figures_only else answered.methods
        content = write_instances(answered.model, answered.prepared, answered.of_pictures, answered.begun, methods)
        return Packed(content, JSON, {})


TENSORS: Mapping[str, AnswerForm] = {JSON: TensorForm(), BINARY: TensorForm(binary=True)}


def choose_form(accept: Sequence[str], drawing: Drawing, tensors: Mapping[str, AnswerForm] = TENSORS) -> AnswerForm:
    """Return the form of an answer: of those that the client likes alike, the first.

    Args:
        accept: The headers of that name.
        drawing: The picture that the request describes; where it does, the answer is a picture.
        tensors: The forms that are no pictures, by their types.

    Raises:
        HTTPException: 406, as the client takes no form that there is.
        UsageError: The header is no list of types, or there is no such style of pictures.
    """
    panel = drawing.picture == "panel"
    forms: dict[str, AnswerForm] = {
        kind: ShownForm(
            kind, partial(_draw, drawing, drawing.options(), encode), panel, shows_photo=True, is_panel=panel
        )
        for kind, encode in ((PNG, encode_png), (WEBP, encode_webp))
    }
    if not drawing.is_given:
        forms = {**tensors, **forms, NPZ: ShownForm(NPZ, _npz, every_method=True, shows_photo=False)}
    header = ", ".join(accept).strip(" ,").lower() or "*/*"
    try:
        chosen = mimeparse.best_match(reversed(forms), header)
    except mimeparse.MimeTypeParseException:
        raise UsageError(f"Accept must be a list of types, not {quote(header)}") from None
    if not chosen:
        raise HTTPException(406, f"Accept is {quote(header)}; the answer comes as {', '.join(forms)}")
    return forms[chosen]


def _check_numbers(prepared: PreparedRequest, rows: int) -> None:
    maps = sum(not output.binary and output.name not in NO_MAPS for output in prepared.outputs)
    numbers = maps * rows * math.prod(prepared.jobs[0].image.shape[1:])
    if numbers > MOST_NUMBERS:
        raise UsageError(
            f"the maps would be {numbers:,} numbers in JSON, the limit is {MOST_NUMBERS:,}: set the parameter "
            "binary_data_output, or ask for fewer methods or pictures"
        )


def names_method(request: InferRequest, tensors: Mapping[str, Tensor]) -> bool:
    """Return whether a request says which maps or figures are wanted."""
    return bool(request.outputs or "method" in tensors or {"method", "methods"} & request.parameters.keys())


def photo_file(tensors: Mapping[str, Tensor]) -> bytes | None:
    """Return the file of a request's first photo; None where its pictures come preprocessed."""
    tensor = tensors.get("image_bytes")
    if tensor is None:
        return None
    file = bytes(tensor.values[0])
    return base64.b64decode(file) if tensor.from_json else file


def _draw(drawing: Drawing, options: DrawOptions, encode: Callable[[UInt8Array], bytes], answered: Answered) -> bytes:
    """Return the picture that the command line would write."""
    photo, preprocessing = answered.pixels()
    explained = [replace(e, image=drawing.name) for e in answered.explanations]
    if drawing.picture != "panel":
        return encode(map_on_photo(explained[0], answered.methods[0], photo, preprocessing, options))
    if len(explained) > 1:
        return encode(panel_of_all(explained, photo, preprocessing, options))
    return encode(panel_of(explained[0], photo, preprocessing, options))


def _npz(answered: Answered) -> bytes:
    buffer = BytesIO()
    maps = answered.explanations[0].maps
    write_npz(buffer, {method: maps[method] for method in answered.methods})
    return buffer.getvalue()


def _headers(parameters: Mapping[str, Any], class_index: int) -> dict[str, str]:
    """Return headers with the parameters of an answer; characters that a header cannot hold are percent-encoded."""
    shown = {"class_index": class_index, **{n: v for n, v in parameters.items() if not n.startswith("seconds_")}}
    return {
        PREFIX + name.replace("_", "-").title(): percent_encoded(str(value), PRINTABLE) for name, value in shown.items()
    }
