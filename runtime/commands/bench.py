"""`fusioncam bench`."""

from pathlib import Path
from typing import Annotated

import typer

from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.options import Chunk, Json, Providers, Quiet, Threads, parts


def bench(
    bundle: Annotated[Path, typer.Argument(help="Bundle made by `fusioncam export`.")],
    images: Annotated[list[Path] | None, typer.Argument(metavar="[IMAGE...]", help="Pictures [drawn ones].")] = None,
    budget: Annotated[
        str, typer.Option(help="Budgets, separated by commas: exact, auto, a number of passes, a fraction.")
    ] = "exact,auto",
    rounds: Annotated[int, typer.Option(help="Runs per picture and budget, in turns.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="JSON file for the result.")] = None,
    providers: Providers = "cpu",
    chunk: Chunk = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Measure what explanations cost on this machine, and how near a budget's maps come to exact ones."""
    from fusioncam.output import json_bytes, write_atomically
    from fusioncam.runtime.bench.bundle import Plan, bench_bundle
    from fusioncam.runtime.bench.table import prepare_target, print_report, report_json
    from fusioncam.runtime.budget import parse_budget

    if out is not None:
        prepare_target(out.absolute())  # whose folder an error can name
    budgets = [parse_budget(b) for b in parts(budget)]
    with console.progress_bar(bundle.name, quiet) as progress:
        report = bench_bundle(bundle, images or [], budgets, rounds, Plan(parts(providers), chunk, threads), progress)
    if out is not None:
        write_atomically(out, json_bytes(report_json(report)))
    if json:
        console.say_json(report_json(report))
    else:
        print_report(report)
    return console.FAILED if any(row.wrong for row in report.rows) else console.DONE
