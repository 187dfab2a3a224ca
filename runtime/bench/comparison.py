"""The comparison of candidates that explain the same pictures: first their maps, then their time."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fusioncam.errors import first_line
from fusioncam.kernels.arrays import Float32Array
from fusioncam.runtime.bench.fidelity import Difference, difference
from fusioncam.runtime.bench.memory import Memory
from fusioncam.runtime.bench.turns import REST, Spread, in_turns, spread
from fusioncam.runtime.evaluation.metrics.catalogue import fault
from fusioncam.runtime.probes.drop import average_drop

BARE = "bare passes"
Maps = dict[str, Float32Array]
Tick = Callable[[], None]


class Picture(NamedTuple):
    """A preprocessed picture x (C, H, W), its name, and the class to explain."""

    name: str
    x: Float32Array
    class_index: int


@dataclass(frozen=True)
class Drawn:
    """One explanation: maps (H, W) by method, and the number of masked passes.

    `missing`: see `Passes`; None where the candidate does not tell.
    """

    maps: Maps
    passes: int
    flags: tuple[str, ...] = ()
    missing: float | None = None


def accept(picture: Picture, drawn: Drawn) -> None:
    """Accept the maps of a budget, which are approximations: the row tells their difference from exact ones."""


@dataclass(frozen=True)
class Candidate:
    """A program that explains pictures.

    Attributes:
        name: Its name in the rows.
        explain: Explains a picture.
        judge: Returns why an explanation is wrong, or None. Called once for every picture.
        note: The difference in its definition of a map.
    """

    name: str
    explain: Callable[[Picture], Drawn]
    judge: Callable[[Picture, Drawn], str | None] = accept
    note: str = ""


@dataclass
class Row:
    """The measurements of one candidate.

    Attributes:
        wrong: The reason why it was not timed, or None.
        passes: Masked passes per picture.
        seconds: Time of one explanation, over pictures and rounds.
        times_bare: Its time over that of the first candidate's bare passes, in the same turn.
        speedup: The first candidate's time over its own, in the same turn.
        differences: From the map of the first candidate, per method and picture.
        drops: Average Drop, per method.
        memory: See `Memory`.
    """

    name: str
    note: str = ""
    wrong: str | None = None
    passes: list[int] = field(default_factory=list)
    missing: list[float] = field(default_factory=list)
    seconds: Spread | None = None
    times_bare: Spread | None = None
    speedup: Spread | None = None
    differences: dict[str, list[Difference]] = field(default_factory=dict)
    drops: dict[str, float] = field(default_factory=dict)
    memory: Memory | None = None


@dataclass(frozen=True)
class Rules:
    """The rules of a comparison.

    Attributes:
        rounds: Runs of every candidate on every picture, after the one whose maps are checked.
        bare: Runs that many passes of a picture, without masks and maps.
        confidences: Returns p_c of pictures (C, H, W).
        excused: Errors that make a candidate wrong, but do not end the comparison; the first candidate has no excuse.
        tick: Called after every explanation.
    """

    rounds: int
    bare: Callable[[Picture, int], object]
    confidences: Callable[[Sequence[Float32Array], int], list[float]]
    excused: tuple[type[Exception], ...] = ()
    tick: Tick = lambda: None


def compare(pictures: Sequence[Picture], candidates: Sequence[Candidate], rules: Rules) -> list[Row]:
    """Check every explanation, then time the candidates that are right.

    Args:
        pictures: One or more.
        candidates: The others are compared with the first.
        rules: The rules of the comparison.

    Returns:
        A row for the bare passes of the first candidate, then one for each candidate.
    """
    bare, rows = Row(BARE), {c.name: Row(c.name, c.note) for c in candidates}
    _check(pictures, candidates, rows, rules)
    bare.passes = list(rows[candidates[0].name].passes)
    seconds: dict[str, list[float]] = {name: [] for name in (BARE, *rows)}
    for picture, count in zip(pictures, bare.passes, strict=True):
        bare_passes = partial(rules.bare, picture, count)
        bare_passes()  # warms up
        timed = {c.name: partial(c.explain, picture) for c in candidates if not rows[c.name].wrong}
        for name, taken in in_turns({BARE: bare_passes, **timed}, rules.rounds, rules.tick, rest=REST).items():
            seconds[name] += taken
    for row in (bare, *rows.values()):
        if seconds[row.name]:
            row.seconds = spread(seconds[row.name])
            row.times_bare = _ratios(seconds[row.name], seconds[BARE])
            row.speedup = _ratios(seconds[candidates[0].name], seconds[row.name])
    return [bare, *rows.values()]


def _ratios(above: Sequence[float], below: Sequence[float]) -> Spread | None:
    """Return the ratios turn by turn, or None where one of both was not timed."""
    return spread([a / b for a, b in zip(above, below, strict=True)]) if above and below else None


def _check(pictures: Sequence[Picture], candidates: Sequence[Candidate], rows: dict[str, Row], rules: Rules) -> None:
    """Fill in all that needs no clock; a candidate that is wrong for one picture explains no more."""
    whole: list[float] = []
    under: dict[tuple[str, str], list[float]] = {}
    for picture in pictures:
        whole += rules.confidences([picture.x], picture.class_index)
        first: Maps = {}
        for candidate in candidates:
            row, leads = rows[candidate.name], candidate is candidates[0]
            if row.wrong and not leads:
                continue
            drawn = _drawn(candidate, picture, row, rules, excused=() if leads else rules.excused)
            if drawn is None:
                continue
            first = drawn.maps if leads else first
            row.passes.append(drawn.passes)
            row.missing += [] if drawn.missing is None else [drawn.missing]
            for method, saliency in drawn.maps.items():
                if method in first:
                    row.differences.setdefault(method, []).append(difference(saliency, first[method]))
            masked = [picture.x * saliency for saliency in drawn.maps.values()]
            for method, p in zip(drawn.maps, rules.confidences(masked, picture.class_index), strict=True):
                under.setdefault((candidate.name, method), []).append(p)
    for (name, method), after in under.items():
        rows[name].drops[method] = average_drop(whole[: len(after)], after)


def _drawn(
    candidate: Candidate, picture: Picture, row: Row, rules: Rules, excused: tuple[type[Exception], ...]
) -> Drawn | None:
    """Return an explanation without those of its maps that are none; `row` gets the reason."""
    drawn = None
    try:
        drawn = candidate.explain(picture)
        faults = {method: fault(m, picture.x.shape[1:]) for method, m in drawn.maps.items()}
        reasons = [f"{method}: {why}" for method, why in faults.items() if why]
        row.wrong = row.wrong or (reasons[0] if reasons else candidate.judge(picture, drawn))
        drawn = replace(drawn, maps={method: m for method, m in drawn.maps.items() if not faults[method]})
    except excused as error:
        row.wrong = f"it does not run: {type(error).__name__}: {first_line(error)}"
    rules.tick()
    return drawn


def row_json(row: Row) -> dict[str, Any]:
    """Return the measurements of a candidate, ready for JSON."""
    facts = asdict(row)
    del facts["differences"], facts["drops"], facts["memory"]
    return {
        **facts,
        "methods": {
            method: {
                "correlation": {
                    "min": min(d.correlation for d in differences),
                    "median": float(np.median([d.correlation for d in differences])),
                },
                "largest_difference": max(d.largest for d in differences),
                "average_drop": row.drops.get(method),
                "correlations": [d.correlation for d in differences],
            }
            for method, differences in row.differences.items()
        },
        "memory": row.memory and {**row.memory._asdict(), "added": row.memory.added},
    }
