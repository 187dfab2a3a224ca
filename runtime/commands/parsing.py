"""The parser of a command: usage that reads, options that every command takes, and lists in any spelling."""

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from fusioncam.runtime.commands.lists import spelled_one_way

Debug = Annotated[bool, typer.Option("--debug", help="Add the traceback to an error.")]


class Command(TyperCommand):
    """A command whose usage names its arguments as the documentation does, and whose lists take commas and spaces."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse arguments in which lists may be separated by commas or by spaces."""
        return super().parse_args(ctx, spelled_one_way(args, self.get_params(ctx)))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the line of usage: `[OPTIONS] BUNDLE IMAGE...`."""
        return ["[OPTIONS]", *(name for name, _ in self.help_rows(ctx, "argument"))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections of arguments and options."""
        for kind in ("argument", "option"):
            if rows := list(self.help_rows(ctx, kind)):
                with formatter.section(f"{kind.capitalize()}s"):
                    formatter.write_dl(rows)

    def help_rows(self, ctx: Any, kind: str) -> Iterator[tuple[str, str]]:
        """Yield names and meanings of the parameters of a kind: `argument` or `option`."""
        parameter: Any
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None or parameter.param_type_name != kind:
                continue
            name, meaning = record
            if kind == "argument":
                # The parser adds a type to the name, which says `<list[Path]>`, and `[required]`, which brackets tell.
                name, meaning = parameter.metavar or parameter.name.upper(), parameter.help or ""
            yield name, meaning.replace("\\[", "[")  # older parsers write the bracket so, for rich


def with_debug(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command that also takes `--debug`, which `console.run_command` reads before anything is parsed."""

    @wraps(command)
    def run(debug: bool = False, **options: Any) -> Any:
        return command(**options)

    signature = inspect.signature(command)
    debug = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), debug])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "debug": Debug}
    return run
