"""The result of `fusioncam bench` as JSON, and as cells of a table."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fusioncam.errors import OutputError
from fusioncam.output import prepare_folder
from fusioncam.runtime.bench.bundle import Report
from fusioncam.runtime.bench.comparison import row_json
from fusioncam.runtime.bench.machine import describe, versions

COLUMNS = ("", "passes", "p50", "p95", "x bare", "MB", "+MB", "corr.", "diff.", "drop %")


def prepare_target(path: Path) -> None:
    """Make the folder of a result, before anything is measured.

    Raises:
        OutputError: No result can be written there.
    """
    prepare_folder(path.parent)
    if path.is_dir():
        raise OutputError(f"cannot write {str(path)!r}: it is a folder: choose another name")


def report_json(report: Report) -> dict[str, Any]:
    """Return all measurements, and the machine they were taken on."""
    return {
        "benchmark": "bundle",
        "schema": 1,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "versions": versions(),
        "bundle": report.bundle,
        "pictures": [{"name": p.name, "class_index": p.class_index} for p in report.pictures],
        "settings": {
            "rounds": report.rounds,
            "chunk": report.chunk,
            "threads": report.config.threads,
            "providers": list(report.config.providers or ["cpu"]),
        },
        "rows": [row_json(row) for row in report.rows],
    }


def cells(row: dict[str, Any]) -> list[str]:
    """Return a row of the table, made of `row_json`; unknown values are blank."""
    methods, memory, seconds = row["methods"], row["memory"] or {}, row["seconds"]
    drops = {method: of_method["average_drop"] for method, of_method in methods.items()}
    drop = drops.get("fusion_cam", next(iter(drops.values()), None))
    return [
        row["name"],
        str(sorted(row["passes"])[len(row["passes"]) // 2]) if row["passes"] else "",
        duration(seconds["p50"]) if seconds else "WRONG",
        duration(seconds["p95"]) if seconds else "",
        f"{row['times_bare']['p50']:.2f}" if row["times_bare"] else "",
        megabytes(memory.get("peak")),
        megabytes(memory.get("added")),
        f"{min(m['correlation']['min'] for m in methods.values()):.4f}" if methods else "",
        f"{max(m['largest_difference'] for m in methods.values()):.4f}" if methods else "",
        "" if drop is None else f"{100 * drop:.1f}",
    ]


def duration(seconds: float) -> str:
    """Return seconds in a legible unit."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.{0 if seconds >= 0.1 else 1}f} ms"


def megabytes(size: int | None) -> str:
    """Return bytes as megabytes."""
    return "" if size is None else f"{size / 1e6:.0f}"
