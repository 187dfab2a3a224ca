"""The one parser of a request: named inputs and parameters become choices and pictures, whatever brings them.

The service and the model of a Triton repository both use it, so it needs neither FastAPI nor Triton.
"""

import base64
import binascii
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusioncam.errors import ImageError, UsageError
from fusioncam.kernels.arrays import Float32Array
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.arguments import checked_class, quote
from fusioncam.runtime.budget import Budget, checked_budget, parse_budget
from fusioncam.runtime.photos.given import Given
from fusioncam.runtime.photos.limits import MAX_PIXELS
from fusioncam.runtime.photos.model_input import ImageLike, as_input
from fusioncam.runtime.photos.reading import picture_of

CHOICES = ("class_index", "method", "budget")  # inputs that may be given as parameters, too
DEFAULT_METHOD = "fusion_cam"


@dataclass(frozen=True)
class ParsedRequest:
    """The choices of a request, which are the same for all of its pictures.

    Attributes:
        class_numbers: One for all pictures, or one for each; -1 is the top class.
        methods: Names of methods, in order; empty where the client leaves the choice open.
        budget: Masked passes to spend on each picture.
    """

    class_numbers: Sequence[int]
    methods: tuple[str, ...]
    budget: Budget

    def classes(self, pictures: int, classes: int) -> list[int]:
        """Return the class of each picture, for a model of so many classes.

        Raises:
            UsageError: There is no such class, or another number of classes than of pictures.
        """
        if len(self.class_numbers) not in (1, pictures):
            raise UsageError(
                f"{len(self.class_numbers)} class numbers for {pictures} pictures: give one for all, or one for each"
            )
        checked = [checked_class(number, classes) for number in self.class_numbers]
        return checked * pictures if len(checked) == 1 else checked


def parse_request(
    inputs: Mapping[str, Sequence[Any]], parameters: Mapping[str, Any], budget: str = "exact"
) -> ParsedRequest:
    """Return the choices that a request makes.

    Args:
        inputs: The values of inputs by name, flat, texts as str.
        parameters: The parameters of the request by name. Of both, only those of `CHOICES` are read.
        budget: The budget of a request that names none.

    Raises:
        UsageError: A choice is made twice, or makes no sense.
    """
    for name in CHOICES:
        if name in parameters and name in inputs:
            raise UsageError(f"{name} is given as an input and as a parameter: give it once")
    classes = inputs.get("class_index")
    methods = inputs.get("method")
    return ParsedRequest(
        _class_number(parameters.get("class_index", -1)) if classes is None else classes,
        _method_names(parameters.get("method", "")) if methods is None else tuple(methods),
        _budget(parameters.get("budget", budget), inputs.get("budget")),
    )


def _class_number(parameter: Any) -> list[int]:
    if isinstance(parameter, bool) or not isinstance(parameter, int):
        raise UsageError(f"the parameter class_index must be a whole number, not {quote(parameter)}")
    return [parameter]


def _method_names(parameter: Any) -> tuple[str, ...]:
    if not isinstance(parameter, str):
        raise UsageError("the parameter method must be names of methods, separated by commas")
    return tuple(name.strip() for name in parameter.split(",") if name.strip())


def _budget(parameter: Any, values: Sequence[str] | None) -> Budget:
    if values is not None:
        if len(values) != 1:
            raise UsageError("input 'budget' must hold one budget, for all pictures")
        parameter = values[0]
    return parse_budget(parameter) if isinstance(parameter, str) else checked_budget(parameter)


def default_method(available: Sequence[str]) -> str:
    """Return the method of a request that names none."""
    return DEFAULT_METHOD if DEFAULT_METHOD in available else available[0]


def picture_input(inputs: Collection[str]) -> str:
    """Return the name of the input that holds the pictures: `image`, or `image_bytes`, which holds files.

    Raises:
        UsageError: Neither is given, or both.
    """
    if ("image" in inputs) == ("image_bytes" in inputs):
        raise UsageError("give the picture once: as input 'image', preprocessed, or as input 'image_bytes', a file")
    return "image" if "image" in inputs else "image_bytes"


def prepared_pictures(
    inputs: Mapping[str, Sequence[Any]], preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS
) -> Iterator[Float32Array]:
    """Yield the pictures of a request as the model takes them, each (C, H, W) float32, one at a time.

    Arguments and errors are those of `opened_pictures`.
    """
    for picture, own in opened_pictures(inputs, preprocessing, max_pixels):
        yield as_input(picture, own)[1]


def opened_pictures(
    inputs: Mapping[str, Sequence[Any]],
    preprocessing: Preprocessing,
    max_pixels: int = MAX_PIXELS,
    in_base64: bool = False,
    of_photos: Callable[[tuple[int, int]], tuple[int, ...]] | None = None,
) -> Iterator[tuple[ImageLike, Preprocessing]]:
    """Yield the pictures of a request, files decoded, and the way of each to the model's input, one at a time.

    Args:
        inputs: The values of inputs by name: pictures of `image`, or files of `image_bytes`.
        preprocessing: The model's.
        max_pixels: The most pixels of a photo.
        in_base64: Whether files are in base64.
        of_photos: Returns the size of the input for a photo (H0, W0); by default it is that of the preprocessing.

    Raises:
        UsageError: The pictures are not given, or twice.
        ImageError: A picture cannot be decoded, has too many pixels or another shape than the model's.
    """
    given = picture_input(inputs)
    values = inputs[given]
    for n, value in enumerate(values):
        if given == "image_bytes":
            name = "the picture" if len(values) == 1 else f"picture {n}"
            data = file_of(value, name) if in_base64 else value
            value = Given.photo(picture_of(data, name, preprocessing, max_pixels, declared=True))
            if of_photos is not None:
                preprocessing = preprocessing.model_copy(update={"size": of_photos(value.values.shape[:2])})
        yield value, preprocessing


def file_of(text: bytes, name: str) -> bytes:
    """Return a file of its base64; raise ImageError where the text is none."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ImageError(f"{name} is not base64: in JSON, a picture is a file in base64") from None
