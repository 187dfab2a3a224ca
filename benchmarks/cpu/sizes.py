"""Stages `chunks`, `channels` and `images`: the growth of time and memory, on networks small enough to show it."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from record import Record

from cpu.candidates import theirs, weigh
from cpu.setting import Setting
from cpu.side_by_side import bare_passes, race
from fusioncam.runtime.bench.bundle import BenchConfig, explaining, memory_of
from fusioncam.runtime.bench.comparison import Candidate, row_json
from fusioncam.runtime.bench.passes import BarePasses
from fusioncam.runtime.bench.turns import REST, in_turns, spread

PASSES = 64
BESIDE = "pytorch-grad-cam: Score-CAM"  # the peer whose time and memory are shown against channels


def chunks(record: Record, setting: Setting) -> None:
    """Measure the seconds per bare pass by chunk on every network, and per pass of an explanation on cheap networks."""
    for name in dict.fromkeys((*setting.names(), setting.narrow)):
        subject = setting.subject(name)
        work: dict[str, Callable[[], object]] = {}
        x = subject.pictures[0].x
        counts: dict[str, int] = {}
        for chunk in setting.chunks:
            bare = BarePasses(subject.bundle, subject.manifest, chunk, None, setting.threads)
            work[f"bare {chunk}"] = partial(bare.run, x, PASSES)
            counts[f"bare {chunk}"] = PASSES
            if name == setting.narrow:
                explainer = BenchConfig(chunk=chunk, threads=setting.threads).open(subject.bundle, "exact")
                work[f"exact {chunk}"] = partial(explainer.explain, x)
                counts[f"exact {chunk}"] = explainer.explain(x).passes.run
        for run in work.values():
            run()  # warms up
        for what, seconds in in_turns(work, setting.rounds, rest=REST).items():
            kind, chunk_text = what.split()
            per_pass = asdict(spread([s / counts[what] for s in seconds]))
            record.figures.append({"subject": name, "what": kind, "chunk": int(chunk_text), "per_pass": per_pass})
        record.save()


def channels(record: Record, setting: Setting) -> None:
    """Measure time and memory by the number of channels of the layer."""
    for width in setting.widths:
        subject = setting.subject(f"wide-{width}")
        bare = bare_passes(subject, setting)
        exact = BenchConfig(threads=setting.threads).open(subject.bundle, "exact")
        fielded = [Candidate("fusioncam exact", partial(explaining, exact))]
        if setting.peers:
            fielded += theirs(record, subject, setting, bare, BESIDE)
        rows = race(subject.pictures[:1], fielded, setting, bare)
        for row in rows:
            if row.wrong is None:
                weigh(record, subject, setting, row, bare)
        record.figures.append({"channels": width, "rows": [row_json(row) for row in rows]})
        record.save()


def images(record: Record, setting: Setting) -> None:
    """Measure memory by the number of pictures that are given at once."""
    subject = setting.subject(setting.narrow)
    for count in setting.images:
        found = memory_of(subject.bundle, "exact", subject.pictures[0], BenchConfig(threads=setting.threads), 0, count)
        record.figures.append({"images": count, "memory": {**found._asdict(), "added": found.added}})
