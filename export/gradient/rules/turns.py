"""A loop over the first axis of sequences, written as a Scan."""

from collections.abc import Callable, Sequence

import onnx_ir as ir

from fusioncam.export.gradient.tape import Ops, subgraph

Values = Sequence[ir.Value]
# Of the writer of one turn, its states, and the items of the sequences: the next states, and what it puts out.
Turn = Callable[[Ops, Values, Values], tuple[Values, Values]]


def take_turns(
    op: Ops, turn: Turn, states: Values, sequences: Values, backwards: bool, length: int, like: ir.Value
) -> tuple[Values, Values]:
    """Append a loop, and return its last states and what its turns put out, stacked in the order of the sequences.

    Args:
        op: Appends nodes.
        turn: Appends those of one turn. It may use values from outside.
        states: Before the first turn.
        sequences: Their first axis, of `length`, is the one to go along.
        backwards: Whether the last items come first.
        length: The number of turns; a single one is written without a loop.
        like: A value of the element type of all of them.
    """
    if length == 1:
        first = op.ints([0])
        last, made = turn(op, states, [op.Squeeze(v, first) for v in sequences])
        return last, [op.Unsqueeze(v, first) for v in made]
    name = f"{sequences[0].name}/turns"
    inputs = [
        ir.Value(name=f"{name}/{what}_{i}", type=like.type)
        for what, values in (("state", states), ("item", sequences))
        for i in range(len(values))
    ]

    def build(inner: Ops) -> Values:
        last, made = turn(inner, inputs[: len(states)], inputs[len(states) :])
        return [inner.Identity(v) if v in inputs else v for v in (*last, *made)]

    body = subgraph(name, build, inputs)
    outputs = op.many(
        "Scan",
        *(*states, *sequences),
        count=len(body.outputs),
        body=body,
        num_scan_inputs=len(sequences),
        scan_input_directions=[int(backwards)] * len(sequences),
        scan_output_directions=[int(backwards)] * (len(body.outputs) - len(states)),
    )
    return outputs[: len(states)], outputs[len(states) :]
