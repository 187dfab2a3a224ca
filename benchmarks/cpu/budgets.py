"""Stage `budgets`: the time of fusioncam by budget, and the difference of its maps from exact ones, over photos."""

from record import Record

from cpu.candidates import ours
from cpu.setting import Setting
from cpu.side_by_side import bare_passes, described, race
from fusioncam.runtime.bench.comparison import row_json


def measure(record: Record, setting: Setting) -> None:
    """Measure every network over all its pictures; each picture is explained once more after its maps are checked."""
    for name in setting.names():
        subject = setting.subject(name)
        bare = bare_passes(subject, setting)
        rounds = -(-setting.rounds // len(subject.pictures))
        rows = race(subject.pictures, ours(record, subject, setting, bare, setting.budgets), setting, bare, rounds)
        for row in rows:
            record.check(f"{name}: {row.name}", 0 if row.wrong is None else 1, 0, reason=row.wrong)
        found = {**described(subject, bare), "pictures": [p.name for p in subject.pictures]}
        record.figures.append({**found, "rounds": rounds, "rows": [row_json(row) for row in rows]})
        record.save()
