"""Words that a shell offers after Tab: the choices that a help text names, entries of lists, names of classes."""

import json
import os
import re
from pathlib import Path
from typing import Any

import typer

from fusioncam.manifest import MANIFEST
from fusioncam.runtime.commands.lists import LISTS

MOST = 100  # names of classes that are offered

_CHOICE = r"\w+(?:[:.-]\w+)*(?: \([^)]*\))?"
_CHOICES = re.compile(rf"{_CHOICE}(?: \| {_CHOICE})+")


def choices(text: str) -> list[str]:
    """Return the choices that a help text names: heat, contour and top of `Style: heat | contour | top`."""
    found = _CHOICES.search(text)
    return re.sub(r" \([^)]*\)", "", found[0]).split(" | ") if found else []


def choice(text: str, *names: str, metavar: str = "NAME", **options: Any) -> Any:
    """Return an option whose help text names its choices, which shells complete."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in choices(text) if word.startswith(incomplete)]

    return typer.Option(*names, help=text, metavar=metavar, autocompletion=complete, **options)


def word_list(text: str, *names: str, metavar: str, **options: Any) -> Any:
    """Return an option that takes a list, which shells complete word by word.

    Args:
        text: Help.
        names: Of the option; by default that of the parameter.
        metavar: One of `LISTS`.
        options: Further ones of typer.
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, word = incomplete.rpartition(",")
        taken = before.split(",")
        return [f"{before}{comma}{w}" for w in LISTS[metavar].known() if w.startswith(word) and w not in taken]

    return typer.Option(*names, help=text, metavar=metavar, autocompletion=complete, **options)


def class_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the bundle's classes that begin so, the first name of each class."""
    # While the option lacks its value, the parser leaves the arguments where they are.
    folders = (Path(argument) for argument in (ctx.params.get("bundle"), *ctx.args) if argument)
    manifest = next((folder / MANIFEST for folder in folders if (folder / MANIFEST).is_file()), None)
    if manifest is None:
        return []
    try:
        labels = json.loads(manifest.read_bytes())["labels"] or ()  # without the checks of `read_bundle`
    except (OSError, ValueError, KeyError):
        return []
    names = [label.partition(",")[0].strip() for label in labels]
    found = [name for name in names if name.casefold().startswith(incomplete.casefold())][:MOST]
    # What was typed stays as it is: shells drop words that begin otherwise.
    return [incomplete + _quoted(name[len(incomplete) :]) for name in found]


def _quoted(text: str) -> str:
    """Return a text for the shell; bash alone takes completions as they are, and would make two words of a blank."""
    is_bash = os.environ.get("_FUSIONCAM_COMPLETE", "").endswith("bash")
    return re.sub(r"([^\w.,:/-])", r"\\\1", text) if is_bash else text
