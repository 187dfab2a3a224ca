"""The parameters of an address, and the fields of a form: the same as the parameters in a request's JSON, as texts."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fusioncam.errors import UsageError
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.picture import COLORMAPS, DEFAULT_COLORMAP, DEFAULT_OPACITY, DEFAULT_TOP, STYLES, DrawOptions

Model = TypeVar("Model", bound=BaseModel)


class Drawing(BaseModel):
    """The picture that an answer shows: parameters of HTTP alone, as other protocols have no pictures."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    picture: Literal["overlay", "panel"] | None = Field(
        None, description="The map of the first method on the whole photo (default), or all maps on a panel."
    )
    colormap: str | None = Field(None, description=f"{' | '.join(COLORMAPS)} (default {DEFAULT_COLORMAP}).")
    opacity: float | None = Field(None, description=f"Opacity of the colours, 0 to 1 (default {DEFAULT_OPACITY}).")
    style: str | None = Field(None, description=f"{' | '.join(STYLES)} (default heat).")
    top: float | None = Field(None, description=f"Percent of the pixels that `top` outlines (default {DEFAULT_TOP:g}).")
    name: str | None = Field(None, description="The photo's name, which a panel shows.")

    @classmethod
    def taken_from(cls, parameters: dict[str, Any]) -> "Drawing":
        """Return what the parameters of a request say of pictures, and take it out of them.

        Raises:
            UsageError: A value makes no sense.
        """
        return _checked(cls, {name: parameters.pop(name) for name in cls.model_fields if name in parameters})

    @property
    def is_given(self) -> bool:
        """Return whether the request asks for a picture; the name of the photo alone does not."""
        return bool(self.model_fields_set - {"name"})

    def options(self) -> DrawOptions:
        """Return the way to draw; raise UsageError where there is no such colour map, opacity, style or share."""
        return DrawOptions(**self.model_dump(exclude_none=True, exclude={"picture", "name"}))


class RequestTexts(Drawing):
    """The parameters that an address or a form may have."""

    class_name: str | None = Field(
        None, alias="class", description="The class by its name or number, in place of `class_index`."
    )
    class_index: int | None = Field(None, description="The class; -1 is the top one (default).")
    point: str | None = Field(
        None,
        description="x,y in pixels of the photo, such as 40,60: the part of a segmenter's class, or the detection.",
    )
    box: str | None = Field(None, description="x1,y1,x2,y2 in pixels of the photo: the detection that overlaps it.")
    detection: str | None = Field(None, description="Numbers of detections in the list of all, from 0 on: 0,3.")
    together: bool | None = Field(None, description="Whether all detections are one target.")
    most: int | None = Field(None, description="How many detections are explained, at most (default 10).")
    by: str | None = Field(None, description="score | box | both: the evidence that counts for a detection.")
    keypoint: str | None = Field(None, description="A keypoint of the detections, by name or number.")
    conf: float | None = Field(None, description="The least score of a detection, 0 to 1.")
    levels: str | None = Field(None, description="own | mean: the level that made the detection, or the mean of all.")
    iou: float | None = Field(None, description="The overlap from which on a detection is a duplicate, 0 to 1.")
    peak: bool | None = Field(None, description="Whether the largest value in a region counts, not the mean.")
    value: int | None = Field(None, description="The value of a regression, or the heat map, from 0 on.")
    down: bool | None = Field(None, description="Whether the map shows what lowers a value.")
    methods: str | None = Field(None, description="Names of methods, separated by commas; `method` is the same.")
    method: str | None = Field(None, description="See `methods`.")
    budget: str | None = Field(
        None, description="exact, auto, auto:0.01, 80ms, 64, 0.25 (default: in the model's metadata)."
    )
    verify: bool | None = Field(None, description="Whether a verdict on the map is wanted.")
    explain_if: str | None = Field(None, description='A condition, without which no map is made: "probability < .6".')
    size: str | None = Field(
        None, description="Size of the input, for a bundle of any size: 320x240 (H x W), or photo, the photo's own."
    )
    timeout: int | None = Field(None, description="Microseconds that the request may take.")
    binary_data_output: bool | None = Field(None, description="Whether tensors follow the JSON as bytes.")


def parsed_texts(pairs: Iterable[tuple[str, str]], where: str = "query parameter") -> dict[str, Any]:
    """Return the parameters of a request from texts.

    Args:
        pairs: Names and values.
        where: The kind of the pairs, for errors.

    Raises:
        UsageError: A name is unknown or comes twice, or a value makes no sense.
    """
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given:
            raise UsageError(f"the {where} {quote(name)} is given twice: give it once")
        given[name] = value
    return _checked(RequestTexts, given, where).model_dump(by_alias=True, exclude_unset=True)


def merged(*given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters of a request that come from several places; raise UsageError where one comes twice."""
    parameters: dict[str, Any] = {}
    for some in given:
        if twice := sorted(parameters.keys() & some.keys()):
            raise UsageError(f"{twice[0]} is given twice, in the address and in the body: give it once")
        parameters |= some
    return parameters


def described_parameters() -> list[dict[str, Any]]:
    """Return the parameters of an address as OpenAPI describes them."""
    schemas = RequestTexts.model_json_schema()["properties"]
    return [
        {"name": name, "in": "query", "required": False, "description": schema["description"], "schema": _plain(schema)}
        for name, schema in schemas.items()
    ]


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a value that is there."""
    return dict(schema["anyOf"][0])


def _checked(model: type[Model], given: Mapping[str, Any], where: str = "parameter") -> Model:
    """Return values as a model has them.

    Raises:
        UsageError: A name is unknown, or a value makes no sense.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][-1])
    if first["type"] == "extra_forbidden":
        known = ", ".join(field.alias or name for name, field in model.model_fields.items())
        raise UsageError(f"there is no {where} {quote(name)}; there are {known}")
    raise UsageError(f"the {where} {name} cannot be {quote(first['input'])}: {first['msg'].lower()}")
