"""`fusioncam bench` as a table and as JSON."""

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
    """See early whether a result can be written to a file.

    Raises:
        OutputError: It cannot.
    """
    prepare_folder(path.parent)
    if path.is_dir():
        raise OutputError(f"cannot write {str(path)!r}: it is a folder: choose another name")


def report_json(report: Report) -> dict[str, Any]:
    """Everything that was measured, and where."""
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
    """A row of the table, from `row_json`; what is unknown is left blank."""
    methods, memory, seconds = row["methods"], row["memory"] or {}, row["seconds"]
    drops = {method: found["average_drop"] for method, found in methods.items()}
    drop = drops.get("fusion_cam", next(iter(drops.values()), None))
    return [
        row["name"],
        str(sorted(row["passes"])[len(row["passes"]) // 2]) if row["passes"] else "",
        duration(seconds["p50"]) if seconds else "WRONG",
        duration(seconds["p95"]) if seconds else "",
        f"{row['times_bare']['p50']:.2f}" if row["times_bare"] else "",
        megabytes(memory.get("peak")),
        megabytes(memory.get("added")),
        f"{min(found['correlation']['min'] for found in methods.values()):.4f}" if methods else "",
        f"{max(found['largest_difference'] for found in methods.values()):.4f}" if methods else "",
        "" if drop is None else f"{100 * drop:.1f}",
    ]


def duration(seconds: float) -> str:
    """Seconds for a reader."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"


def megabytes(size: int | None) -> str:
    """Bytes for a reader."""
    return "" if size is None else f"{size / 1e6:.0f}"
