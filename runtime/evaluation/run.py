"""An evaluation from its beginning, or from the point of an interruption, to its report."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fusioncam
from fusioncam.manifest import Manifest, sha256
from fusioncam.output import json_bytes, write_atomically
from fusioncam.runtime.budget import budget_json
from fusioncam.runtime.engine import Progress
from fusioncam.runtime.evaluation.annotations import Problem
from fusioncam.runtime.evaluation.evaluator import Evaluated, EvaluationConfig
from fusioncam.runtime.evaluation.metrics.catalogue import METRICS
from fusioncam.runtime.evaluation.questions import ANNOTATED, TOP, Questions
from fusioncam.runtime.evaluation.report.page import report_html
from fusioncam.runtime.evaluation.report.summary import summarise
from fusioncam.runtime.evaluation.report.table import table_bytes
from fusioncam.runtime.evaluation.store.store import Row, Store
from fusioncam.runtime.picture_inputs import input_digests
from fusioncam.runtime.sessions.engine_cache import bundle_digest
from fusioncam.runtime.tables import Kind

Rows = Callable[[Sequence[tuple[str, Path]]], Iterator[Evaluated]]
"""Evaluates photos, given by their names in the rows and their files, in any order: see `Evaluator.rows`."""


def settings_of(config: EvaluationConfig, manifest: Manifest, photos: Path) -> dict[str, Any]:
    """Return the settings that must be equal for a run to continue another; the hardware may differ."""
    return {
        "bundle": bundle_digest(manifest),
        "preprocessing": manifest.preprocessing.model_dump(),
        "labels": hashlib.sha256(repr(manifest.labels).encode()).hexdigest() if manifest.labels else None,
        "photos": photos.resolve(),
        "methods": list(config.methods),
        "budget": budget_json(config.budget),
        **asdict(config.faithfulness),
        "annotations": config.annotations.sha256,
        "references": config.references.sha256,
        "target": ANNOTATED if config.annotated else TOP,
        "tolerance": config.tolerance,
        "sanity": config.random_bundle is not None,
        **({"inputs": input_digests(manifest, config.inputs)} if config.inputs else {}),
        "version": fusioncam.__version__,
    }


def evaluate_photos(
    photos: Mapping[str, Path], rows: Rows, store: Store, progress: Progress = lambda done, total: None
) -> list[Row]:
    """Evaluate the photos that have no rows yet, or not those of all targets.

    Args:
        photos: Files by their names in the rows.
        rows: Evaluates; the rows of a photo come one after the other.
        store: Keeps each row as soon as it is there.
        progress: Called with (done, all) photos after each.

    Returns:
        All rows of these photos, those of earlier runs included.
    """
    left = [(name, file) for name, file in photos.items() if not _finished(store, name, file)]
    done = len(photos) - len(left)
    progress(done, len(photos))
    for row, pictures in rows(left) if left else ():
        target = row["target"] if row.get("targets", 1) > 1 else ""
        for method, picture in pictures.items():
            row["methods"][method]["picture"] = store.save_picture(row["image"], method, picture, target)
        store.add(row)
        if store.complete(row["image"]):
            done += 1
            progress(done, len(photos))
    return [row for row in store.rows if row["image"] in photos]


def _finished(store: Store, name: str, file: Path) -> bool:
    """Return whether the photo has its rows, and its file is unchanged."""
    try:
        return store.finished(name) and store.finished(name, sha256(file))
    except OSError:
        return False


def write_results(
    store: Store, config: EvaluationConfig, rows: Sequence[Row], about: Mapping[str, Any], table: Kind = "csv"
) -> dict[str, Any]:
    """Write the table, `summary.json` and `report.html`, and return the summary."""
    problems = (
        *config.annotations.problems,
        *config.references.problems,
        *_shifted_numbers(config, rows),
        *_no_effect(config, rows),
    )
    summary = summarise(rows, config.methods, METRICS, about, problems)
    measured = list(summary["metrics"])
    write_atomically(store.folder / f"results.{table}", table_bytes(rows, config.methods, measured, table))
    write_atomically(store.folder / "summary.json", json_bytes(summary))
    html = report_html(summary, rows, store.picture).encode("utf-8", "backslashreplace")
    write_atomically(store.folder / "report.html", html)
    return summary


def _shifted_numbers(config: EvaluationConfig, rows: Sequence[Row]) -> Iterator[Problem]:
    """Yield a problem where the annotations seem to count classes from another number than the model."""
    annotated = [(row["class_index"], set(row["accepted"])) for row in rows if row.get("correct") is not None]
    right = {shift: sum(c - shift in accepted for c, accepted in annotated) for shift in (-1, 0, 1)}
    best = max(right, key=lambda shift: right[shift])
    if not config.annotated and right[best] >= 2 * right[0] + 2:
        yield Problem(
            None,
            f"the top class is right on {right[0]} of {len(annotated)} photos, but would be on {right[best]} if the "
            f"numbers of classes were {'larger' if best > 0 else 'smaller'} by 1: look at --class-offset",
        )


def _no_effect(config: EvaluationConfig, rows: Sequence[Row]) -> Iterator[Problem]:
    """Yield a problem where there are annotations, but not one map could be measured by them."""
    measured = [row for row in rows if "error" not in row]
    maps = [of_map["metrics"] for row in measured for of_map in row["methods"].values()]
    if config.annotations.sha256 is None or not measured or any("pointing" in figures for figures in maps):
        return
    if not config.annotations.entries:
        why = "they are for none of these photos: file names in them must be those of the folder"
    elif not any(entry.objects for entry in config.annotations.entries.values()):
        why = "they name classes, but no places of objects"
    else:
        why = "no explained class is on an annotated object: look at --class-offset, or use --target annotated"
    yield Problem(None, f"the annotations have no effect on pointing and energy: {why}")


def about_of(config: EvaluationConfig, manifest: Manifest) -> dict[str, Any]:
    """Return the facts about a run that the report shows."""
    return {
        "model": Path(manifest.source.path).stem,
        "bundle": str(config.bundle),
        "layer": " + ".join(layer.title for layer in manifest.layers),
        "methods": list(config.methods),
        "budget": budget_json(config.budget),
        "steps_of_insertion_and_deletion": config.faithfulness.steps,
        **Questions(manifest, config.annotations, config.annotated, config.references).about,
        "versions": {"fusioncam": fusioncam.__version__, **manifest.tools},
    }
