"""The comparison: first the maps, then the time; a candidate that is wrong is not timed."""

import json

import numpy as np
import pytest

from fusioncam.runtime.bench.comparison import BARE, Candidate, Drawn, Picture, Rules, compare, row_json

SLOPE = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
PICTURES = [Picture(name, np.full((3, 3, 4), k + 1, np.float32), k) for k, name in enumerate(("one", "two"))]


class Field:
    """Candidates that write down when they run; `bare` as well."""

    def __init__(self):
        self.order, self.counts = [], []

    def candidate(self, name, m=SLOPE, passes=5, judge=None, error=None):
        def explain(picture):
            self.order.append((name, picture.name))
            if error is not None:
                raise error
            return Drawn({"score_cam": m}, passes, missing=0.25 if name == "cut" else None)

        return Candidate(name, explain, judge) if judge else Candidate(name, explain)

    def bare(self, picture, count):
        self.order.append((BARE, picture.name))
        self.counts.append(count)

    def rules(self, rounds=2, **more):
        return Rules(rounds, self.bare, lambda pictures, c: [float(x.mean()) for x in pictures], **more)


@pytest.fixture
def field():
    return Field()


def runs(field, name):
    return sum(who == name for who, _ in field.order)


def test_everyone_is_looked_at_before_anyone_is_timed(field):
    exact, other = field.candidate("exact"), field.candidate("other", 1 - SLOPE, passes=2)
    bare, first, second = compare(PICTURES, [exact, other], field.rules(rounds=3))
    looked = [(name, picture.name) for picture in PICTURES for name in ("exact", "other")]
    assert field.order[:4] == looked
    assert runs(field, "exact") == runs(field, "other") == 2 * (1 + 3)
    assert runs(field, BARE) == 2 * (1 + 3), "one warm-up per picture"
    assert set(field.counts) == {5}, "as many bare passes as the first candidate runs"
    assert [row.name for row in (bare, first, second)] == [BARE, "exact", "other"]
    assert [row.seconds.count for row in (bare, first, second)] == [6, 6, 6]
    assert (bare.times_bare.p50, first.speedup.p50) == (1, 1)
    assert (bare.passes, first.passes, second.passes) == ([5, 5], [5, 5], [2, 2])
    assert [d.correlation for d in first.differences["score_cam"]] == [1, 1]
    assert [d.correlation for d in second.differences["score_cam"]] == pytest.approx([-1, -1])


def test_the_rounds_of_a_picture_take_turns(field):
    compare(PICTURES[:1], [field.candidate(name) for name in ("exact", "other")], field.rules())
    timed = [name for name, _ in field.order[3:]]
    assert timed == [BARE, "exact", "other", "exact", "other", BARE]


@pytest.mark.parametrize("wrong", [np.full((3, 4), np.nan, np.float32), SLOPE.T, SLOPE * 2])
def test_what_is_no_map_is_wrong_and_not_timed(field, wrong):
    rows = compare(PICTURES, [field.candidate("exact"), field.candidate("bad", wrong)], field.rules())
    assert rows[2].wrong.startswith("score_cam: ")
    assert (rows[2].seconds, rows[2].times_bare, rows[2].speedup) == (None, None, None)
    assert runs(field, "bad") == 1, "it explains no more once it is found wrong"
    assert rows[1].seconds.count == 4


def test_a_judge_says_who_is_wrong(field):
    asked = []

    def judge(picture, drawn):
        asked.append(picture.name)
        return "another map" if picture.name == "two" else None

    rows = compare(PICTURES, [field.candidate("exact"), field.candidate("bad", judge=judge)], field.rules())
    assert asked == ["one", "two"]
    assert (rows[2].wrong, rows[2].seconds) == ("another map", None)


def test_a_first_candidate_that_is_wrong_is_compared_with_all_the_same(field):
    first = field.candidate("exact", judge=lambda picture, drawn: "off")
    bare, exact, other = compare(PICTURES, [first, field.candidate("other")], field.rules())
    assert (exact.wrong, exact.seconds, exact.passes) == ("off", None, [5, 5])
    assert (bare.seconds.count, other.seconds.count) == (4, 4)
    assert other.speedup is None


def test_a_failure_is_excused_where_it_may_be(field):
    bad = field.candidate("bad", error=RuntimeError("no such operator\nand more"))
    rows = compare(PICTURES, [field.candidate("exact"), bad], field.rules(excused=(RuntimeError,)))
    assert rows[2].wrong == "it does not run: RuntimeError: no such operator"
    assert rows[1].seconds.count == 4
    with pytest.raises(RuntimeError, match="no such operator"):
        compare(PICTURES, [field.candidate("exact"), bad], field.rules())
    with pytest.raises(RuntimeError, match="no such operator"):
        compare(PICTURES, [bad], field.rules(excused=(RuntimeError,)))


def test_the_drop_is_over_the_pictures_under_the_map(field):
    rows = compare(PICTURES, [field.candidate("exact")], field.rules())
    assert rows[1].drops == {"score_cam": pytest.approx(1 - SLOPE.mean())}


def test_as_json(field):
    rows = compare(PICTURES, [field.candidate("exact"), field.candidate("cut", 1 - SLOPE)], field.rules())
    bare, exact, cut = (json.loads(json.dumps(row_json(row))) for row in rows)
    assert (bare["methods"], bare["memory"]) == ({}, None)
    assert (exact["missing"], cut["missing"]) == ([], [0.25, 0.25])
    found = cut["methods"]["score_cam"]
    assert found["correlation"] == {"min": pytest.approx(-1), "median": pytest.approx(-1)}
    assert found["largest_difference"] == pytest.approx(1)
    assert len(found["correlations"]) == 2
    assert set(cut["seconds"]) == {"p50", "p95", "min", "max", "count"}
