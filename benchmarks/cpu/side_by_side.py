"""Stage `peers`: fusioncam and others on the same weights, pictures and threads."""

from record import Record

from cpu.candidates import gradient_only, ours, theirs, weigh
from cpu.setting import TIMED, Setting
from cpu.subjects import Subject
from fusioncam.runtime.bench.bundle import BenchConfig
from fusioncam.runtime.bench.comparison import Candidate, Picture, Row, Rules, compare, row_json
from fusioncam.runtime.bench.passes import BarePasses

BESIDE = 2  # budgets that are set beside the peers; stage `budgets` has all


def measure(record: Record, setting: Setting) -> None:
    """Compare all candidates on every network."""
    for name in setting.names():
        subject = setting.subject(name)
        bare = bare_passes(subject, setting)
        fielded = [*ours(record, subject, setting, bare, setting.budgets[:BESIDE]), gradient_only(subject, setting)]
        if setting.peers:
            fielded += theirs(record, subject, setting, bare)
        rows = race(subject.pictures[:TIMED], fielded, setting, bare)
        for row in rows:
            record.check(f"{name}: {row.name}", 0 if row.wrong is None else 1, 0, reason=row.wrong)
            if row.wrong is None:
                weigh(record, subject, setting, row, bare)
        record.figures.append({**described(subject, bare), "rows": [row_json(row) for row in rows]})
        record.save()


def bare_passes(subject: Subject, setting: Setting) -> BarePasses:
    """Return the bare passes with the chunk that fusioncam chooses."""
    chunk = BenchConfig(threads=setting.threads).open(subject.bundle, "exact").chunk
    return BarePasses(subject.bundle, subject.manifest, chunk, None, setting.threads)


def race(
    pictures: list[Picture], candidates: list[Candidate], setting: Setting, bare: BarePasses, rounds: int = 0
) -> list[Row]:
    """Compare all candidates on a subject; an error of a peer does not end the comparison."""
    rules = Rules(
        rounds or setting.rounds, lambda p, count: bare.run(p.x, count), bare.confidences, excused=(Exception,)
    )
    return compare(pictures, candidates, rules)


def described(subject: Subject, bare: BarePasses) -> dict[str, object]:
    """Return the facts about the subject of a figure."""
    return {
        "subject": subject.name, "weights": subject.weights, "layer": list(subject.manifest.layer.shape),
        "size": list(subject.manifest.preprocessing.size), "chunk": bare.chunk,
    }  # fmt: skip
