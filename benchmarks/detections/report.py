"""The tables of the benchmark of detections."""

from collections.abc import Mapping
from typing import Any

from cpu.readme import table
from targets import cell

from detections.makers import BUDGETS, MOVED, OURS, SHUFFLED, WITNESS
from fusioncam.runtime.picture import method_title

PLACES = ("pointing", "energy", "over chance")
CURVES = ("insertion", "deletion")
COMPARED = {"pointing": "higher", "energy": "higher", "insertion": "higher", "deletion": "lower"}
"""Figures of which differences are told, and which are good."""


def title_of(name: str) -> str:
    """Return the printed name of a row."""
    method, _, note = name.partition(" ")
    title = {WITNESS: f"D-RISE, {note} masks", MOVED: "Fusion-CAM, blocks moved"}.get(method)
    return title or method_title(method) + f", {note}" * bool(note)


def of_kind(found: Mapping[str, Any]) -> str:
    """Return the figures of a kind of picture in Markdown."""
    figures, passes, less, rows, gaps = found["figures"], found["passes"], found["less_fusion_cam"], [], []
    for name in (OURS, *less):
        random, run = figures.get(f"{name} {SHUFFLED}"), passes.get(name)
        own = [cell(figures[name][metric]) for metric in (*PLACES, *CURVES)]
        of_random = [cell(random[metric]) if random else "" for metric in COMPARED]
        rows.append([title_of(name), "" if run is None else f"{run:.0f}", *own, *of_random])
        hit = ["{} of {}".format(*found["hits"][name][objects]) for objects in ("rings", "others")]
        gaps.append([title_of(name), *(cell(less[name][m]) if name in less else "" for m in COMPARED), *hit])
    columns = ("", "passes", *PLACES, *CURVES, "shuffled weights: pointing", *list(COMPARED)[1:])
    head = f"**{found['kind']}**: {found['detections']} right detections in {found['pictures']} pictures."
    few = found["masks_at_equal_deletion"]
    masks = f"no higher than Fusion-CAM's from {few} masks on" if few else "higher than Fusion-CAM's, with all of them"
    of_masks = f"D-RISE's mean deletion is {masks} (tried: {', '.join(map(str, BUDGETS))})."
    compared = table(("less Fusion-CAM's", *COMPARED, "rings hit", "others hit"), gaps)
    return "\n\n".join([head, table(columns, rows), compared, of_masks])


def of_precision(found: Mapping[str, Mapping[str, float]], pictures: int) -> str:
    """Return the average precisions in Markdown."""
    names = list(dict.fromkeys(name for of_kind in found.values() for name in of_kind))
    rows = [[kind, *(f"{of_kind[n]:.3f}" if n in of_kind else "" for n in names)] for kind, of_kind in found.items()]
    return (
        f"Average precision on {pictures} held-out pictures of each kind, seeds from 0:\n\n{table(('', *names), rows)}"
    )
