"""Stage `explanations`: Fusion-CAM from picture to maps, its bare passes, and Score-CAM by others, in turns."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from record import Record, spread

from gpu.lab import BACKENDS, LATE, Explained, Lab, bare, explain
from gpu.maps import compare

OUTSIDE = 0.05  # share of the time that may pass outside the provider's own passes
PLAIN, PACKAGED = "score_cam by plain torch", "score_cam by pytorch-grad-cam"
FUSED, BARE = "fusion_cam by ", "bare passes by "


@dataclass(frozen=True)
class Plan:
    """Numbers of explanations and rounds to measure.

    Attributes:
        models: Names of networks, or of files.
        chunks: Masked pictures per run; the first matter most, should time run out.
        rounds: Most rounds per model, precision and chunk.
        least: Fewest, even where they take longer than `seconds`.
        seconds: For one model, precision and chunk, after the warm-up.
        deadline: On the clock of `time.perf_counter`; nothing is begun after it.
    """

    models: Sequence[str]
    chunks: Sequence[int]
    rounds: int = 20
    least: int = 5
    seconds: float = 5.0
    deadline: float = float("inf")


def measure(record: Record, lab: Lab, plan: Plan) -> None:
    """Every chunk, model and precision; the best of each candidate at the end."""
    rounds = [(chunk, BACKENDS) for chunk in plan.chunks] + [(plan.chunks[0], LATE)]
    settings = [(name, precision) for name in plan.models for precision in lab.precisions(name)]
    for (chunk, backends), (name, precision) in product(rounds, settings):
        label = f"{name}, {precision}, chunk {chunk}"
        if time.perf_counter() > plan.deadline:
            record.leave_out(f"{label}, by {', '.join(backends)}", "the time limit was reached")
            continue
        one_setting(record, lab, plan, (name, precision, chunk), backends)
        record.save()
    for backend, why in lab.broken.items():
        record.leave_out(f"explanations by {backend}", why)
    record.figures += best(record.figures)


def one_setting(record: Record, lab: Lab, plan: Plan, setting: tuple[str, str, int], backends: Sequence[str]) -> None:
    """All candidates, in turns: fusioncam by some backends and, but for late ones, others."""
    name, precision, chunk = setting
    label = f"{name}, {precision}, chunk {chunk}"
    work: dict[str, Callable[[], Any]] = {}
    wanted = lab.reference(name)
    for backend in backends:
        if backend in lab.broken or (backend == "torch" and name in lab.files):
            continue
        try:
            engine, manifest = lab.open(backend, name, precision, chunk)
            run = partial(explain, engine, manifest, lab.picture(name), wanted.class_index)
            found = run()
        except Exception as error:  # the others shall be timed all the same
            if backend not in lab.broken:
                record.failed(f"{label}, by {backend}", error)
            continue
        if compare(record, f"{label}, by {backend}", precision, found, wanted):
            work[FUSED + backend] = run
            work[BARE + backend] = partial(bare, engine, found.passes)
    if backends is BACKENDS and "torch" not in lab.broken and name not in lab.files:
        work |= others(record, lab, name, precision, chunk, wanted.class_index)
    times = in_turns(record, label, work, plan)
    last = {who: work[who]() for who in times if who.startswith(FUSED)}
    report(record, {"model": name, "precision": precision, "chunk": chunk}, times, label, last)
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        torch.cuda.empty_cache()  # or the next setting's buffers would have to do with what is left


def others(
    record: Record, lab: Lab, name: str, precision: str, chunk: int, class_index: int
) -> dict[str, Callable[[], Any]]:
    """Score-CAM by others, from the same picture."""
    from gpu import score_cams

    picture = partial(lab.input, name)
    plain = score_cams.plain(lab.on_device(name, precision), chunk, class_index)
    made: dict[str, Callable[[], Any]] = {PLAIN: lambda: plain(picture())}
    try:
        packaged = score_cams.packaged(lab.copy_of(name), chunk, class_index, precision == "fp16")
    except Exception as error:  # not installed, or built for another torch
        record.leave_out(PACKAGED, error)
    else:
        made[PACKAGED] = lambda: packaged(picture())
    return made


def in_turns(record: Record, label: str, work: dict[str, Callable[[], Any]], plan: Plan) -> dict[str, list[float]]:
    """Seconds of every candidate, each of them once a round; one that fails is left out."""
    times: dict[str, list[float]] = {}
    for who, run in work.items():
        try:
            run()
        except Exception as error:  # as above
            (record.failed if who.startswith((FUSED, BARE)) else record.leave_out)(f"{label}, {who}", error)
        else:
            times[who] = []
    end = time.perf_counter() + plan.seconds
    for i in range(plan.rounds if times else 0):
        if i >= plan.least and time.perf_counter() > end:
            break
        for who, seconds in times.items():
            start = time.perf_counter()
            work[who]()
            seconds.append(time.perf_counter() - start)
    return times


def report(
    record: Record, setting: dict[str, Any], times: dict[str, list[float]], label: str, last: dict[str, Explained]
) -> None:
    """The figures of one setting, with what passes outside the bare passes, round by round.

    Args:
        record: Gets them.
        setting: Model, precision, chunk.
        times: Seconds by candidate.
        label: The setting in words.
        last: One more explanation of each candidate of ours, which says what took how long.
    """
    for who, seconds in times.items():
        figure: dict[str, Any] = {**setting, "who": who, "seconds": spread(seconds)}
        passing = times.get(who.replace(FUSED, BARE))
        if who.startswith(FUSED) and passing:
            shares = [(e - b) / e for e, b in zip(seconds, passing, strict=True)]
            figure |= {"passes": last[who].passes._asdict(), "stage_seconds": last[who].timing}
            figure |= {"share_outside": spread(shares), "cuda_graphs": last[who].cuda_graphs}
            record.target(f"{label}, {who}: share outside the passes", float(np.median(shares)), OUTSIDE)
        record.figures.append(figure)


def best(figures: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per model and precision the fastest chunk of each candidate, and how much longer it takes than fusioncam's."""
    found: list[dict[str, Any]] = []
    groups = dict.fromkeys((f["model"], f["precision"]) for f in figures)
    for model, precision in groups:
        fastest: dict[str, dict[str, Any]] = {}
        for f in figures:
            if (f["model"], f["precision"]) == (model, precision) and not f["who"].startswith(BARE):
                known = fastest.setdefault(f["who"], f)
                fastest[f["who"]] = min(known, f, key=lambda g: float(g["seconds"]["p50"]))
        ours = [f["seconds"]["p50"] for who, f in fastest.items() if who.startswith("fusion_cam")]
        found += [
            {
                "model": model, "precision": precision, "best_of": who, "chunk": f["chunk"], "seconds": f["seconds"],
                "times_fusion_cam": f["seconds"]["p50"] / min(ours) if ours else None,
            }
            for who, f in fastest.items()
        ]  # fmt: skip
    return found
