"""Messages in protobuf's text form, with comments: the format of config.pbtxt."""

import json
from collections.abc import Iterator
from typing import TypeAlias, Union


class Word(str):
    """A name of an enumeration, written without quotes."""


Value: TypeAlias = Union[str, int, bool, tuple[int, ...], "Message"]
Message: TypeAlias = list[str | tuple[str, Value]]
"""Fields in order, (name, value): a list is a message, a tuple several numbers. A bare string is a comment."""


def text(message: Message) -> str:
    """Return the text of a message as a file."""
    return "".join(line + "\n" for line in _lines(message))


def _lines(message: Message) -> Iterator[str]:
    for field in message:
        if isinstance(field, str):
            yield f"# {field}"
        elif not isinstance(field[1], list):
            yield f"{field[0]}: {_scalar(field[1])}"
        elif any(isinstance(inner, str) or isinstance(inner[1], list) for inner in field[1]):
            yield f"{field[0]} {{"
            yield from (f"  {line}" for line in _lines(field[1]))
            yield "}"
        else:
            yield f"{field[0]} {{ {' '.join(_lines(field[1]))} }}"


def _scalar(value: str | int | bool | tuple[int, ...]) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    # A string is quoted as in JSON, whose escapes protobuf knows; so are true and false.
    return value if isinstance(value, Word) else json.dumps(value)
