"""The cut of a graph above its search for the best boxes: NonMaxSuppression, or a TopK of the scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.readers.boxes.cuts.bypass import all_rows, conditions_of_boxes, end_in, find_bypassed
from fusioncam.export.readers.boxes.cuts.limits import ABOVE, Limits, least_score, most_boxes, number
from fusioncam.export.readers.boxes.cuts.proposals import hold_proposals
from fusioncam.export.readers.boxes.cuts.scores import Part, ScoreWalk, Shape, ShapeOf, starts_of
from fusioncam.export.readers.boxes.cuts.sides import Columns, columns_of, is_chosen
from fusioncam.export.readers.boxes.cuts.walking import PICKS, after, before, searches

Background = Literal["none", "first", "last"]
PROTOTYPES = 4  # axes: pictures, prototypes, rows, columns


@dataclass(frozen=True)
class Cut:
    """The dense tensors of a detector, above its search for the best boxes.

    Attributes:
        boxes: The four numbers of all boxes.
        scores: The scores of all classes, one tensor or one for each level.
        extras: What else there is of each box.
        background: Where the scores hold those of no object.
        centred: Whether boxes are coded by their centres and sizes; None where only their numbers tell.
        limits: The thresholds of the search.
        bypassed: Tensors of chosen rows, each with the one of all rows that takes its place.
        proposals: The most boxes that a first stage proposes; None of a detector of one stage.
        valid: Conditions without which a box is none, however high its score is.
        prototypes: The output that holds the prototypes of instance masks (N, P, h, w); None where there is none.
    """

    boxes: ir.Value
    scores: tuple[ir.Value, ...]
    extras: tuple[ir.Value, ...]
    background: Background
    centred: bool | None
    limits: Limits
    bypassed: tuple[tuple[ir.Value, ir.Value], ...]
    proposals: int | None = None
    valid: tuple[ir.Value, ...] = ()
    prototypes: ir.Value | None = None

    @property
    def values(self) -> tuple[ir.Value, ...]:
        """Return boxes, scores, extras and conditions."""
        return (self.boxes, *self.scores, *self.extras, *self.valid)

    def bypassed_in(self, names: Mapping[ir.Value, str]) -> tuple[tuple[str, str], ...]:
        """Return the names in the source of chosen rows, each with those of all rows."""
        return tuple((name_in(names, chosen), name_in(names, whole)) for chosen, whole in self.bypassed)


def name_in(names: Mapping[ir.Value, str], value: ir.Value) -> str:
    """Return the name of a tensor in the source.

    Raises:
        ModelError: The source has no such tensor, so the cut could not be compared with it.
    """
    if value not in names:
        raise ModelError(
            f"the model can be cut at {value.name!r} only, which is written otherwise in its file; export the model "
            "again, at a newer opset or without its search for the best boxes"
        )
    return names[value]


@dataclass(frozen=True)
class _End:
    """The end of a detector: what searches, and the scores that it works on."""

    walk: ScoreWalk
    parts: list[Part]
    nodes: list[ir.Node]
    results: list[ir.Value]


def cut_above_search(graph: ir.Graph, outputs: Mapping[str, ir.Value], shapes: Mapping[ir.Value, Shape]) -> Cut | None:
    """Cut a graph above the search for the best boxes; return None, and leave it as it is, where it ends otherwise.

    What chooses boxes by their scores is bypassed, so the graph's other outputs change.

    Args:
        graph: The graph; its first input is the picture.
        outputs: The outputs that may be read, by their names.
        shapes: The shapes of tensors for one picture, as far as they are known.

    Raises:
        ModelError: The graph ends in a search that cannot be taken off.
    """
    varying = after(graph, graph.inputs[:1])
    values = [o for o in outputs.values() if o in varying]
    ends = (make(graph, values, varying, shapes.get) for make in (_search_end, _matrix_end, _sorting_end))
    end = next((e for e in ends if e is not None), None)
    if end is None:
        return None
    scores, background = _whole(end.parts)
    reached = after(graph, scores)
    columns = columns_of(values, {*end.walk.seen}, varying, shapes.get)
    if columns is None or not is_chosen(columns.sides, reached, varying):
        if end.nodes:
            raise _refusal(end.nodes[0], "its boxes cannot be followed to the outputs")
        return None
    proposals = hold_proposals(graph, scores)
    wanted = [columns.sides, *columns.extras]
    bypassed = find_bypassed(graph, wanted, reached, shapes.get)
    limits = _limits(graph, end, scores, reached)
    centred = _centred(end, columns, bypassed)
    sides, *extras = (all_rows(v, bypassed, shapes.get) for v in wanted)
    valid = () if proposals is None else tuple(conditions_of_boxes(bypassed, scores))
    dense = extras and proposals is None
    masks = [v for v in values if dense and v not in reached and len(shapes.get(v, ())) == PROTOTYPES][:1]
    bypassed = end_in(graph, [sides, *scores, *extras, *valid, *masks], bypassed)
    whole, prototypes = tuple(bypassed.items()), masks[0] if masks else None
    return Cut(sides, tuple(scores), tuple(extras), background, centred, limits, whole, proposals, valid, prototypes)


def _search_end(graph: ir.Graph, outputs: Sequence[ir.Value], varying: set[ir.Value], shape_of: ShapeOf) -> _End | None:
    """Return the end that is made of the last NonMaxSuppression nodes above the outputs."""
    wanted = before(outputs)
    found = [(inner, outer) for inner, outer in searches(graph) if not wanted.isdisjoint(outer.outputs)]
    earlier = before(v for inner, _ in found for v in inner.inputs[:2] if v is not None)
    last = [(inner, outer) for inner, outer in found if earlier.isdisjoint(outer.outputs)]
    if not last:
        return None
    walk = ScoreWalk(varying, shape_of)
    parts = [part for inner, _ in last if (s := inner.inputs[1]) is not None for part in walk.parts(s)]
    return _End(walk, parts, [inner for inner, _ in last], [o for _, outer in last for o in outer.outputs])


def _matrix_end(graph: ir.Graph, outputs: Sequence[ir.Value], varying: set[ir.Value], shape_of: ShapeOf) -> _End | None:
    """Return the end that is a matrix of the overlaps of all sorted boxes, above a threshold (arXiv 1904.02689).

    So Ultralytics searches for rotated boxes.
    """
    wanted = before(outputs)
    held = (n for n in graph if n.op_type in ABOVE and not wanted.isdisjoint(n.outputs))
    node = next((n for n in held if (m := n.inputs[0]) and (made := m.producer()) and made.op_type == "Trilu"), None)
    if node is None:
        return None
    of_matrix, walk = before(v for v in node.inputs if v is not None), ScoreWalk(varying, shape_of)
    sorts = [n for n in graph if n.op_type == "TopK" and n.outputs[1] in of_matrix]
    return _End(walk, walk.parts(sorts[-1].outputs[0]), [node], list(node.outputs)) if sorts else None


def _sorting_end(
    graph: ir.Graph, outputs: Sequence[ir.Value], varying: set[ir.Value], shape_of: ShapeOf
) -> _End | None:
    """Return the end that is made of a TopK whose scores are outputs."""
    for start in starts_of(list(outputs), varying):
        walk = ScoreWalk(varying, shape_of)
        parts = walk.parts(start)
        shape = shape_of(parts[0].value)
        node = start.producer()
        assert node is not None
        if len(parts) == 1 and shape is not None and len(shape) == 3:
            return _End(walk, parts, [], list(node.outputs))
    return None


def _whole(parts: Sequence[Part]) -> tuple[list[ir.Value], Background]:
    """Return the dense scores, and where they hold those of no object."""
    values, columns = list(dict.fromkeys(part.value for part in parts)), [part.column for part in parts]
    if all(c is None for c in columns):
        return _with_background(values)
    classes = parts[0].classes or 0
    ranges: dict[Background, list[int]] = {
        "none": [*range(classes)], "first": [*range(1, classes)], "last": [*range(classes - 1)],
    }  # fmt: skip
    found = next((place for place, expected in ranges.items() if columns == expected), None)
    if found is not None and len(values) == 1:
        return values, found
    if len(parts) == 1 and parts[0].alone is not None:  # the only class, among other columns
        return [parts[0].alone], "none"
    raise ModelError("the model searches for the best boxes of some of its classes only; export it without that search")


def _with_background(values: list[ir.Value]) -> tuple[list[ir.Value], Background]:
    """Return scores with those of no object, where a Slice leaves out the first of all, or the last of a Softmax."""
    value = values[0]
    while (node := value.producer()) is not None and node.op_type in ("Identity", "Cast", "Transpose"):
        assert node.inputs[0] is not None
        value = node.inputs[0]
    if len(values) != 1 or node is None or node.op_type != "Slice" or (whole := node.inputs[0]) is None:
        return values, "none"
    start, end = (number(v) for v in node.inputs[1:3])
    made = whole.producer()
    if start == 1 and end is not None and end > 1:
        return [whole], "first"
    last = start == 0 and end is not None and made is not None and made.op_type == "Softmax"
    return ([whole], "last") if last else (values, "none")


def _limits(graph: ir.Graph, end: _End, scores: Sequence[ir.Value], reached: set[ir.Value]) -> Limits:
    """Return the thresholds of an end."""
    multi_label = not end.walk.best_only
    conf = least_score([*end.walk.seen, *scores], end.nodes)
    chosen = after(graph, end.results)
    if not end.nodes:
        most = next((number(n.inputs[1]) for r in end.results[:1] if (n := r.producer()) is not None), None)
        return Limits(conf=conf, most=None if most is None else int(most), nms=False, multi_label=multi_label)
    node = end.nodes[0]
    iou = number(node.inputs[1]) if node.op_type in ABOVE else number(node.inputs[3]) if len(node.inputs) > 3 else None
    per_class = number(node.inputs[2]) if len(node.inputs) > 2 else None
    most = most_boxes(graph, chosen)
    if most is None and per_class is not None and 0 < per_class < 10**4:
        most = int(per_class)
    apart = multi_label or _moves_by_class(graph, node.inputs[0], reached)
    return Limits(conf=conf, iou=iou, most=most, class_wise=apart, multi_label=multi_label)


def _moves_by_class(graph: ir.Graph, boxes: ir.Value | None, reached: set[ir.Value]) -> bool:
    """Return whether boxes are moved apart by their class, so that those of two classes never overlap."""
    todo, seen = [boxes], set[ir.Value]()
    while todo:
        value = todo.pop()
        node = None if value is None or value in seen else value.producer()
        if value is None or node is None:
            continue
        seen.add(value)
        if node.op_type in ("ArgMax", "Mod", "TopK"):
            return True
        if value in reached or node.graph is not graph:
            todo += node.inputs[:1] if node.op_type in PICKS else node.inputs
    return False


def _centred(end: _End, columns: Columns, bypassed: Mapping[ir.Value, ir.Value]) -> bool | None:
    """Return whether the boxes are coded by their centres, as the search says of those that it reads unchanged."""
    for node in end.nodes:
        read = node.inputs[0]
        while read is not None and read not in bypassed and (made := read.producer()) is not None:
            if made.op_type not in ("Identity", "Cast", "Unsqueeze", "Squeeze"):
                break
            read = made.inputs[0]
        same = bypassed.get(columns.sides, columns.sides)
        if read is not None and bypassed.get(read, read) is same:
            return bool(node.attributes.get_int("center_point_box", 0))
    return None


def _refusal(node: ir.Node, why: str) -> ModelError:
    return ModelError(
        f"node {node.name!r} ({node.op_type}) searches for the best boxes, and {why}; export the model without it"
    )
