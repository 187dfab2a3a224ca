"""Stage `budgets`: how long fusioncam takes by each budget, and how near its maps come to exact ones, over photos."""

from record import Record

from cpu.candidates import ours
from cpu.setting import Setting
from cpu.side_by_side import bare_passes, described, race
from fusioncam.runtime.bench.comparison import row_json


def measure(record: Record, setting: Setting) -> None:
    """Every network, over all its pictures; each is explained once more after it was looked at."""
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
