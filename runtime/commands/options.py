"""Options that several commands share."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from fusioncam.errors import UsageError
from fusioncam.runtime.commands.completion import choice, word_list

Bundle = Annotated[Path, Argument(metavar="BUNDLE", help="Bundle made by `fusioncam export`.")]
Json = Annotated[bool, Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="No progress bar, no notes.")]


def _checked_out(out: Path) -> Path:
    """Return a folder for results; raise UsageError for an address, of which a path would make a folder here."""
    if re.match(r"[a-z][a-z0-9+.-]+:/", out.as_posix()):
        raise UsageError(f"results go into a folder on this machine, not to {str(out)!r}: copy them there afterwards")
    return out


Out = Annotated[Path, Option("--out", "-o", metavar="DIR", help="Folder for the results.", callback=_checked_out)]
Recursive = Annotated[bool, Option("--recursive", "-r", help="Also take photos of subfolders.")]
Size = Annotated[
    str | None,
    word_list("Input size, where the model leaves it open: H,W, any, or any,H,W.", "--size", metavar="H,W"),
]
TimeLimit = Annotated[
    float,
    Option(
        "--time-limit",
        metavar="SECONDS",
        min=0.1,
        envvar="FUSIONCAM_TIME_LIMIT",
        help="End the command after this time.",
    ),
]
MemoryLimit = Annotated[
    float | None,
    Option(
        "--memory-limit",
        metavar="GB",
        min=0.1,
        envvar="FUSIONCAM_MEMORY_LIMIT",
        help="End the command when it holds more memory [nine tenths of the machine's].",
    ),
]
Bands = Annotated[
    str | None,
    Option(
        "--bands",
        metavar="BANDS",
        help="Bands of an array that pictures show, from 1: three as red, green and blue, or one as grey.",
    ),
]
AcceptDrift = Annotated[bool, Option("--accept-drift", help="Take maps that drift beyond the limits.")]
SECONDS = 1800.0  # the usual time limit
Scores = Annotated[str | None, Option("--scores", metavar="OUTPUT", help="Output to explain, of several.")]
Task = Annotated[
    str | None,
    choice("What the model does: classify | value | segment | embed | detect [by its output].", metavar="TASK"),
]
Reader = Annotated[
    str | None,
    choice(
        "Way to read the output: vector | maps | maps-last | map | mean-tokens | cls-token | mean-map; of a detector "
        "yolo | yolo-seg | yolo-pose | yolo-obb | yolo-objectness | yolo-objectness-seg | yolox-raw | detr | rt-detr | "
        "rt-detr-joined | boxes-scores | ssd [by what the model says, and by its shape].",
        metavar="READER",
    ),
]
Image = Annotated[str | None, Option("--image", metavar="INPUT", help="Input that is explained, where several can be.")]
FrozenInputs = Annotated[
    list[str] | None,
    Option(
        "--input",
        metavar="NAME=VALUE",
        help="Freeze another input: a number, several with commas, or a .npy file. NAME alone keeps an optional input "
        "open. May be given several times.",
    ),
]


PictureInputs = Annotated[
    list[str] | None,
    Option(
        "--input",
        metavar="NAME=VALUE",
        help="Further input of the model: a number, several with commas, a .npy file, or a picture. May be given "
        "several times.",
    ),
]


def given_inputs(entries: Sequence[str] | None) -> dict[str, str]:
    """Return values by the names of inputs; raise UsageError for a name alone."""
    values = input_values(entries)
    if alone := [name for name, value in values.items() if value is None]:
        raise UsageError(f"--input {alone[0]} names no value; write --input {alone[0]}=VALUE")
    return {name: value for name, value in values.items() if value is not None}


def input_values(entries: Sequence[str] | None) -> dict[str, str | None]:
    """Return values by the names of inputs, None where an entry is a name alone."""
    pairs = [entry.partition("=") for entry in entries or ()]
    return {name: value if mark else None for name, mark, value in pairs}


Budget = Annotated[
    str,
    choice(
        "Masked passes: exact | auto | auto:0.01 (a tolerance) | 80ms (a time) | 64 (a number) | 0.2 (a share).",
        metavar="BUDGET",
    ),
]
Providers = Annotated[
    str,
    word_list(
        "Execution providers, in order of preference: cpu, cuda, tensorrt, tensorrt-rtx, qnn, openvino, webgpu, "
        "coreml, directml, or NAME:LIBRARY.",
        metavar="PROVIDERS",
    ),
]
AllowCpu = Annotated[bool, Option("--allow-cpu", help="Let the CPU run nodes that no provider takes, with a warning.")]
Chunk = Annotated[int | None, Option(metavar="N", help="Masked pictures per run [measured; 64 on a GPU].")]
Threads = Annotated[int | None, Option(metavar="N", help="CPU threads [one per core].")]
DEFAULT_METHODS = "[fusion_cam,grad_cam,score_cam; without a gradient score_cam]"
Layout = Annotated[
    str | None,
    choice("Order of the input's axes, where its shapes leave it open: nchw | nhwc [by its shapes].", metavar="ORDER"),
]
