"""`fusioncam inspect`: layers of a model, their cost, and operators without a gradient rule."""

from pathlib import Path
from typing import Annotated

import typer

from fusioncam import supervisor
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.options import SECONDS, Json, MemoryLimit, Scores, Size, TimeLimit


def inspect(
    model: Annotated[Path, typer.Argument(help="ONNX file, or a folder with one.")],
    size: Size = None,
    scores: Scores = None,
    every: Annotated[bool, typer.Option("--all", help="List every layer, not only the last ten.")] = False,
    time_limit: TimeLimit = SECONDS,
    memory_limit: MemoryLimit = None,
    json: Json = False,
) -> None:
    """Show by what a model can be explained: layers, cost, operators without a gradient rule."""
    supervisor.limit(str(model), time_limit, memory_limit)
    from fusioncam.export import inspect_model
    from fusioncam.export.sessions import silence_default_logger
    from fusioncam.runtime.commands.inspection import inspection_json, print_inspection

    silence_default_logger()
    inspection = inspect_model(model, size=size, output=scores)
    if json:
        console.say_json(inspection_json(inspection))
    else:
        print_inspection(inspection, None if every else 10)
