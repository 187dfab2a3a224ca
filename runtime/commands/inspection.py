"""`fusioncam inspect` as a table and as JSON."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fusioncam.layer_names import short_layer_names
from fusioncam.runtime.commands import console

if TYPE_CHECKING:
    from fusioncam.export import Inspection

# What a target of each normal form is, but for that of a vector.
TARGETS = {
    "maps": "a class over a region: the mean of its map there, or the maximum",
    "embedding": "likeness to a reference: a picture, or a vector",
    "boxes": "a detection: by its class, its box or a point; its score, or the edges of its box",
}


def inspection_json(inspection: "Inspection") -> dict[str, Any]:
    """Return all results of `inspect`, ready for JSON."""
    c = inspection.classifier
    return {
        "input": {"name": c.taken.name, "size": list(c.size), "any_size": c.taken.open},
        "further_inputs": [each.model_dump(mode="json") for each in c.further],
        "output": {
            "name": c.reading.name,
            "numbers": c.outputs,
            "task": c.task,
            "reader": c.reading.reader_name,
            "classes": c.classes,
            "map_size": None if c.map_size is None else list(c.map_size),
            "targets": [each.name for each in c.form.targets],
            "ending": c.ending,
            "found": c.source.text,
            "reach": c.source.reach,
        },
        "opset": c.model.opset_imports[""],
        "precision": c.precision,
        "default_layer": inspection.default.name if inspection.default else None,
        "levels": [level.name for level in inspection.levels],
        "reason": inspection.reason,
        "remarks": list(inspection.remarks),
        "operators_without_rule": inspection.missing,
        "layers": [
            {
                "name": layer.name,
                "shape": list(layer.shape),
                "axes": layer.layout.roles,
                **asdict(cost),
                "refused": layer.refused,
                "bypassed": layer.bypassed,
            }
            for layer, cost in inspection.layers
        ],
    }


def _ending(inspection: "Inspection") -> str:
    """Return the ending of the model, or its form in the graph where no operator of its own makes it."""
    c = inspection.classifier
    if c.task == "embed":
        return ""
    if c.detector is not None:
        return f", {c.ending}"
    return f", {c.ending if c.source.ending == 'logits' and c.source.reach == 'reached' else c.source.text}"


def print_inspection(inspection: "Inspection", most: int | None) -> None:
    """Print the model's facts and a table of its last `most` layers, the last one first."""
    c = inspection.classifier
    shape, size = ", ".join(map(str, ("N", *c.shape))), ", of any size" if c.taken.open else ""
    console.say(f"input    {c.taken.name!r} ({shape}){size}, {c.precision}, as opset {c.model.opset_imports['']}")
    for each in c.further:
        console.say(f"         {each.words}, for each picture")
    one = " of one number, lower and higher" if c.outputs == 1 and c.classes == 2 else ""
    console.say(f"output   {c.reading.name!r}, {c.form.words}{one}{_ending(inspection)}")
    if c.form.scored:
        more = ", or a keypoint" if c.detector is not None and c.detector.extra == "keypoints" else ""
        console.say(f"targets  {TARGETS[c.form.kind]}{more} (task {c.task}, reader {c.reading.reader_name})")
    without = ", ".join(f"{op} ({count})" for op, count in inspection.missing.items())
    console.say(f"no rule  {without or 'none: every operator on the way has a gradient rule'}")
    table = Table("layer", "K x h x w", "passes", "seconds", "MB", "", box=None, pad_edge=False)
    table.columns[0].overflow = table.columns[-1].overflow = "fold"
    for column in table.columns[2:5]:
        column.justify = "right"
    taken = {level.name for level in inspection.levels or filter(None, [inspection.default])}
    rows = [row for n, row in enumerate(inspection.layers[::-1]) if most is None or n < most or row[0].name in taken]
    short = short_layer_names(layer.name for layer, _ in inspection.layers)  # --layer takes them, too
    mark = "<- level" if inspection.levels else "<- default"
    for layer, cost in rows:
        note = f"refused: {layer.refused}" if layer.refused else "bypassed" if layer.bypassed else ""
        shape = " x ".join(map(str, layer.shape))
        figures = str(cost.passes), f"{cost.seconds:.1f}", f"{cost.bytes / 1e6:.0f}"
        table.add_row(short[layer.name], shape, *figures, mark if layer.name in taken else note)
    console.out.print(table, markup=False)
    if inspection.levels:
        console.say("levels: a detection is explained by that of its own, or by the mean of all")
    if any(layer.bypassed and layer.name not in taken for layer, _ in rows):
        console.say("bypassed: part of the evidence reaches the scores on other ways, past this layer")
    for remark in inspection.remarks:
        console.complain(remark, "note")
    if len(rows) < len(inspection.layers):
        console.say(f"... and {len(inspection.layers) - len(rows)} earlier layers (--all lists them)")
    if inspection.way_out is not None:
        console.say(f"no gradient rule: {inspection.way_out}")
    if inspection.default is None:
        console.complain(str(inspection.reason), "note")
