"""The JSON files that hubs lay beside a model."""

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fusioncam.errors import ModelError, first_line
from fusioncam.manifest import Ending

# The problem types of transformers in `config.json`, and their endings; any other is a softmax.
PROBLEMS: Mapping[str, Ending] = MappingProxyType({"multi_label_classification": "sigmoid", "regression": "value"})

# The exceptions of reading an unexpected text.
ODDITIES = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    SyntaxError,
    MemoryError,
    RecursionError,
)


def folders_of(folder: Path) -> tuple[Path, ...]:
    """Return the folders that may hold a configuration: optimum and transformers.js put models into `onnx/` below."""
    whole = folder.absolute()  # or a file that is named from within has no folder above it
    return (folder, whole.parent) if whole.name == "onnx" else (folder,)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; nothing where there is no file, or no object in it.

    Raises:
        ModelError: The file cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({first_line(error)}); repair it or move it away") from error
    return content if isinstance(content, dict) else {}


def read_literal(text: str) -> Any:
    """Return the value that a text of metadata writes as Python does, as Ultralytics' do; None where it writes none."""
    try:
        return ast.literal_eval(text)
    except ODDITIES:
        return None


def configured_ending(folder: Path) -> Ending | None:
    """Return the ending that the configuration of transformers beside a model asks for, if that is no softmax."""
    kinds = (str(read_json(place / "config.json").get("problem_type")) for place in folders_of(folder))
    return next((PROBLEMS[kind] for kind in kinds if kind in PROBLEMS), None)
