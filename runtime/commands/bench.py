"""`fusioncam bench`: cost of explanations on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusioncam.output import count
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.completion import word_list
from fusioncam.runtime.commands.lists import parts
from fusioncam.runtime.commands.options import (
    AllowCpu,
    Bundle,
    Chunk,
    Json,
    PictureInputs,
    Providers,
    Quiet,
    Threads,
    given_inputs,
)

if TYPE_CHECKING:
    from fusioncam.runtime.bench.bundle import Report

EXPLAINED = (
    "passes: median over the pictures. p50, p95: time that 50 and 95 of 100 runs take at most.",
    "x bare: time over that of the bare passes of exact.",
    "MB: peak memory of a process of its own; +MB: of that, over the loaded model.",
    "corr., diff.: correlation with exact maps, and largest difference; of the worst map.",
    "drop: Average Drop under Fusion-CAM, or the only map; lower is better.",
)


def bench(
    bundle: Bundle,
    images: Annotated[list[Path] | None, typer.Argument(metavar="[IMAGE...]", help="Pictures [drawn ones].")] = None,
    budget: Annotated[
        str,
        word_list(
            "Budgets, separated by commas: exact, auto, auto:0.01, 80ms, a number of passes, a share.",
            metavar="BUDGETS",
        ),
    ] = "exact,auto",
    inputs: PictureInputs = None,
    rounds: Annotated[int, typer.Option(metavar="N", help="Runs per picture and budget, in turns.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="JSON file for the result.")] = None,
    providers: Providers = "cpu",
    allow_cpu: AllowCpu = False,
    chunk: Chunk = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Measure what explanations cost on this machine, and how near a budget's maps come to exact ones."""
    from fusioncam.output import json_bytes, write_atomically
    from fusioncam.runtime.bench.bundle import BenchConfig, bench_bundle
    from fusioncam.runtime.bench.table import prepare_target, report_json
    from fusioncam.runtime.budget import parse_budget

    if out is not None:
        prepare_target(out.absolute())  # whose folder an error can name
    budgets = [parse_budget(b) for b in parts(budget)]
    with console.progress_bar(bundle.name, quiet) as progress:
        config = BenchConfig(parts(providers), chunk, threads, allow_cpu=allow_cpu, inputs=given_inputs(inputs))
        report = bench_bundle(bundle, images or [], budgets, rounds, config, progress)
    if out is not None:
        write_atomically(out, json_bytes(report_json(report)))
    if json:
        console.say_json(report_json(report))
    else:
        _print_report(report)
    return console.FAILED if any(row.wrong for row in report.rows) else console.DONE


def _print_report(report: "Report") -> None:
    """Print a row for the bare passes, and one for each budget."""
    from rich.table import Table

    from fusioncam.runtime.bench.comparison import row_json
    from fusioncam.runtime.bench.table import COLUMNS, cells

    pictures = count(len(report.pictures), "drawn picture" if report.made_up else "picture")
    console.say(f"{report.bundle}: {pictures}, {count(report.rounds, 'round')}, chunk {report.chunk}")
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap, column.justify = True, "right"
    table.columns[0].justify = "left"
    for row in report.rows:
        table.add_row(*cells(row_json(row)))
    console.out.print(table, markup=False)
    for row in report.rows:
        if row.wrong:
            console.say(f"{row.name} is WRONG, and was not timed: {row.wrong}")
    for line in EXPLAINED:
        console.say(line)
