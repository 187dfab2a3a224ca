"""The JSON of the protocol: the schemas of requests and answers."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, ValidationError
from pydantic_core import from_json

from fusioncam.errors import UsageError

Datatype = Literal["FP32", "INT64", "BYTES"]
Size = Annotated[int, Field(ge=0, le=1 << 40)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Parameters = dict[str, Any]


class StrictPart(BaseModel):
    """A part of a request, in which nothing is unknown and no type is guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class InputTensor(StrictPart):
    """A tensor of a request: its values are in `data`, or behind the JSON, `parameters.binary_data_size` bytes long."""

    name: Name
    shape: Annotated[list[Size], Field(min_length=1, max_length=8)]
    datatype: Datatype
    parameters: Parameters = {}
    # Validated as an array later: entry by entry, validation would take longer than the rest of the request.
    data: Annotated[list[Any], SkipValidation] | None = Field(
        None, description="Numbers, nested or flat, row by row; texts for BYTES: photos in base64."
    )


class RequestedOutput(StrictPart):
    """A tensor that is asked for; `parameters`: `binary_data` (true | false), `classification` (how many classes)."""

    name: Name
    parameters: Parameters = {}


class InferRequest(StrictPart):
    """The JSON of a request for explanations; `parameters`: among them `verify` (true | false), for a verdict."""

    id: Annotated[str, Field(max_length=256)] = ""
    parameters: Parameters = {}
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=16)]
    outputs: Annotated[list[RequestedOutput], Field(max_length=64)] = []


class OutputTensor(BaseModel):
    """A tensor of an answer: its values are in `data`, or behind the JSON, `parameters.binary_data_size` bytes long."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class InferAnswer(BaseModel):
    """The JSON of an answer; `parameters` are those of the first picture."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: Parameters
    outputs: list[OutputTensor]


class Failure(BaseModel):
    """An error: the cause and the remedy, in one line."""

    error: str


class TensorInfo(BaseModel):
    """A tensor that a model takes or gives; -1 is any size."""

    name: str
    datatype: Datatype
    shape: list[int]


class ModelInfo(BaseModel):
    """A model with its inputs and outputs; `parameters` are the defaults of its requests."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    parameters: dict[str, str]


class ServerInfo(BaseModel):
    """The service and its extensions."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """The answer of a live process."""

    live: bool


class Ready(BaseModel):
    """The answer of a service that takes requests."""

    ready: bool


class ModelReady(Ready):
    """The answer of a model that takes requests."""

    name: str


class ModelNames(BaseModel):
    """The names of models."""

    models: list[str]


class IndexEntry(BaseModel):
    """A model of the repository."""

    name: str
    version: str
    state: str
    reason: str


def read_json(text: bytes) -> InferRequest:
    """Return the JSON of a request for explanations.

    Raises:
        UsageError: The text is no JSON, or something is missing, superfluous or of the wrong type.
    """
    try:
        members = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise UsageError(
            f"the request's JSON cannot be read: {error}; for a photo as the whole body send Content-Type: image/jpeg"
        ) from None
    return checked_request(members)


def checked_request(members: Any) -> InferRequest:
    """Return a request for explanations, from the members of its JSON.

    Raises:
        UsageError: Something is missing, superfluous or of the wrong type.
    """
    try:
        return InferRequest.model_validate(members)
    except ValidationError as error:
        raise UsageError(f"{first_error(error)}; /docs describes requests") from None


def first_error(error: ValidationError) -> str:
    """Return the first error of a request's JSON: where it is, and what is wrong."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part)[:40] for part in first["loc"]) or "the request"
    return f"{where}: {first['msg']}"
