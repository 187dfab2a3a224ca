"""The command line, whose commands have a file each."""

import sys
from typing import Annotated

import typer

import fusioncam
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.bench import bench
from fusioncam.runtime.commands.check import check
from fusioncam.runtime.commands.demo import demo
from fusioncam.runtime.commands.evaluate import evaluate
from fusioncam.runtime.commands.examples import epilog
from fusioncam.runtime.commands.explain import explain
from fusioncam.runtime.commands.export import export
from fusioncam.runtime.commands.inspect import inspect
from fusioncam.runtime.commands.parsing import Command, Debug, with_debug
from fusioncam.runtime.commands.serve import serve
from fusioncam.runtime.commands.triton import triton

# Each with one line for the list of `fusioncam --help`; a command's own help is longer.
COMMANDS = (
    (inspect, "Show by what layers a model can be explained."),
    (export, "Turn a model into a bundle of ONNX graphs."),
    (explain, "Explain pictures: maps, panels, figures."),
    (evaluate, "Measure how good the maps are."),
    (check, "Compare a bundle with the model it was made from."),
    (bench, "Measure what explanations cost on this machine."),
    (serve, "Answer requests for explanations over HTTP."),
    (triton, "Add a bundle to a repository of Triton."),
    (demo, "Explain the built-in picture, or show a page to try."),
)

app = typer.Typer(
    name="fusioncam",
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # markup would swallow text in brackets
    help="Explain image classifiers straight from ONNX files, with Fusion-CAM.",
    epilog="Exit status: 0 done, 1 failed, 2 bad usage.",
)
for _command, _short in COMMANDS:
    app.command(cls=Command, short_help=_short, epilog=epilog(_command.__name__))(with_debug(_command))


def main() -> None:
    """Run the command line and exit: the entry point of `fusioncam`."""
    command = typer.main.get_command(app)
    console.run_command(lambda args: command(args, prog_name="fusioncam", standalone_mode=False), sys.argv[1:])


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
    debug: Debug = False,
) -> None:
    """Explain image classifiers straight from ONNX files, with Fusion-CAM."""
    if version:
        console.say(fusioncam.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.say(context.get_help())
        raise typer.Exit(2)
