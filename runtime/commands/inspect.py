"""`fusioncam inspect`: layers of a model, their cost, operators without a gradient rule; and who would run it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fusioncam import supervisor
from fusioncam.errors import UsageError
from fusioncam.free_size import ANY
from fusioncam.manifest import MANIFEST
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.completion import word_list
from fusioncam.runtime.commands.lists import parts, size_of
from fusioncam.runtime.commands.options import (
    SECONDS,
    FrozenInputs,
    Image,
    Json,
    Layout,
    MemoryLimit,
    Reader,
    Scores,
    Size,
    Task,
    TimeLimit,
    input_values,
)


def inspect(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="ONNX file, or a folder with one; with --providers a bundle, too."),
    ],
    size: Size = None,
    layout: Layout = None,
    image: Image = None,
    inputs: FrozenInputs = None,
    scores: Scores = None,
    task: Task = None,
    reader: Reader = None,
    every: Annotated[bool, typer.Option("--all", help="List every layer, not only the last ten.")] = False,
    providers: Annotated[
        str | None,
        word_list("Show which nodes of the explanation's graphs these providers would run.", metavar="PROVIDERS"),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="LAYER", help="With --providers and a model: the layer to explain [export's choice]."),
    ] = None,
    time_limit: TimeLimit = SECONDS,
    memory_limit: MemoryLimit = None,
    json: Json = False,
) -> None:
    """Show by what a model can be explained: layers, cost, operators without a gradient rule.

    With --providers it shows node by node who would run the graphs of an explanation.
    """
    supervisor.limit(str(model), time_limit, memory_limit)
    from fusioncam.export import inspect_model
    from fusioncam.export.sessions import silence_default_logger
    from fusioncam.runtime.commands.inspection import inspection_json, print_inspection

    if providers is None and (model / MANIFEST).is_file():
        raise UsageError(f"{model} is a bundle: give --providers, or the .onnx file that it was made from")
    if layer is not None and providers is None:
        raise UsageError("--layer chooses the graphs for --providers: give both")
    of_source = {
        "size": size_of(size, ANY), "layout": layout, "output": scores, "task": task, "reader": reader,
        "image": image, "inputs": input_values(inputs) or None,
    }  # fmt: skip
    if providers is not None:
        _survey(model, parts(providers), layer, of_source, json)
        return
    silence_default_logger()
    inspection = inspect_model(model, **of_source)
    if json:
        console.say_json(inspection_json(inspection))
    else:
        print_inspection(inspection, None if every else 10)


def _survey(
    model: Path,
    providers: list[str],
    layer: str | None,
    of_source: dict[str, Any],
    json: bool,
) -> None:
    """Print who would run the graphs of an explanation."""
    from fusioncam.runtime.commands.survey import print_survey, survey_json, survey_model

    surveys = survey_model(model, providers, {"layer": layer, **of_source})
    if json:
        console.say_json([survey_json(survey) for survey in surveys])
        return
    for survey in surveys:
        print_survey(survey)
