"""The schema of a row, against which stored rows are validated: a file may be damaged between two runs."""

from typing import Annotated, Any, TypeAlias, TypeGuard

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, ValidationError

# Figures are bounded so that their squares, and sums of those, are finite; NaN is within no bounds.
Figure: TypeAlias = Annotated[float, Field(gt=-1e100, lt=1e100)] | None
Whole: TypeAlias = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]  # the integers of Parquet
# Names of files may hold lone surrogates, which pydantic's own str refuses.
Text: TypeAlias = InstanceOf[str]


class _Record(BaseModel):
    """A dictionary of exact types (True is no number), in which keys may be missing but not wrong."""

    model_config = ConfigDict(strict=True)


class _Passes(_Record):
    run: Whole = 0
    channels: Whole = 0
    missing: Figure = None


class _Method(_Record):
    metrics: dict[Any, Figure] = {}
    curves: dict[Any, list[Figure]] = {}
    flags: list[Text] = []
    picture: Text = ""


class _Row(_Record):
    image: Text
    error: Text = ""
    sha256: Text = ""
    size: Annotated[list[Whole], Field(min_length=2, max_length=2)] = []
    class_index: Whole = 0
    label: Text | None = None
    target: Text = ""
    title: Text = ""
    targets: Whole = 1
    object_size: Text = ""
    score: Figure = None
    probability: Figure = None
    accepted: list[Whole] = []
    correct: bool | None = None
    passes: _Passes = _Passes()
    seconds: Figure = None
    problems: list[Text] = []
    methods: dict[Any, _Method] = {}


def is_row(value: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether a value of JSON is a row: of a photo that failed, with its error, or of one with methods."""
    try:
        return bool({"error", "methods"} & _Row.model_validate(value).model_fields_set)
    except ValidationError:
        return False
