"""Deadlines, by a clock that only runs of the model move on."""

from dataclasses import replace

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.runtime.budget import deadline
from fusioncam.runtime.engine import Clock, ExplainRequest
from fusioncam.runtime.explanation import STANDARD_ERROR
from fusioncam.runtime.methods import METHODS

EXPLAIN, RUN, PICTURE = 0.020, 0.002, 0.001  # seconds of the explain pass, and of a run of the model and its pictures
LEAST = EXPLAIN + RUN + 8 * PICTURE + 2 * (RUN + PICTURE)  # of an explanation: 8 pictures, then R and U one by one
CHANNELS = 195  # that matter, of 200


class Ticking:
    """A session whose runs take time, by a clock of the test's own."""

    def __init__(self, session, watch, seconds):
        self.session, self._watch, self._seconds = session, watch, seconds

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run(self, outputs, feeds):
        self._watch.time += self._seconds(max(len(array) for array in feeds.values())) * self._watch.slowness
        return self.session.run(outputs, feeds)


class Watch:
    """An Explainer, and the time that its runs have taken."""

    def __init__(self, relayed, bundle, methods=METHODS, **options):
        self.time, self.slowness, self.methods = 0.0, 1.0, methods
        self.explainer, relays = relayed(bundle, methods=methods, **options)
        for path, relay in relays.items():
            seconds = (lambda n: EXPLAIN) if path.name == "explain.onnx" else (lambda n: RUN + n * PICTURE)
            relay.session = Ticking(relay.session, self, seconds)

    def request(self, picture, seconds, targets=(1,), waited=0.0, **more):
        clock = Clock(lambda: self.time, waited)
        return ExplainRequest(picture, list(targets), self.methods, deadline(seconds), clock, **more)

    def explain(self, *arguments, **more):
        """The explanations, and the seconds that they took."""
        pipeline, begun = self.explainer.pipeline, self.time
        request = self.request(*arguments, **more)
        (made,) = pipeline.run([pipeline.task(request)], self.methods, request.verify)
        return made, self.time - begun


@pytest.fixture(scope="module")
def wide(make_tiny):
    return make_tiny(channels=200, zero=(1, 5, 77), constant=(3, 150))


@pytest.fixture
def watch(relayed, wide, pictures):
    """A watch whose pace is known."""
    watch = Watch(relayed, wide.bundle)
    watch.explain(pictures[2], 0.060)
    watch.explain(pictures[2], 0.060)
    return watch


def correlation(found, wanted):
    return np.corrcoef(found.ravel(), wanted.ravel())[0, 1]


@pytest.mark.parametrize("milliseconds", [50, 80, 120, 200])
def test_a_deadline_is_kept_and_its_time_used(watch, pictures, milliseconds):
    (found,), seconds = watch.explain(pictures[0], milliseconds / 1000)
    assert milliseconds / 1000 - (RUN + 8 * PICTURE) <= seconds <= milliseconds / 1000
    assert 8 < found.passes.run < CHANNELS
    assert found.passes.error > 0
    assert ("cut_short" in found.flags) == (found.passes.error > found.passes.tolerance)
    assert "late" not in found.flags


@pytest.mark.parametrize("methods", [("rise",), ("rise", "score_cam"), ("fusion_cam:grad_cam+rise",)])
def test_random_masks_end_in_time(relayed, wide, pictures, methods):
    watch = Watch(relayed, wide.bundle, methods)
    for picture in pictures:
        (found,), seconds = watch.explain(picture, 0.3)
    assert 0.3 - 2 * (RUN + 8 * PICTURE) <= seconds <= 0.3
    assert found.passes.standard_error > STANDARD_ERROR
    assert "cut_short" in found.flags


def test_more_time_is_more_passes_and_a_better_map(watch, pictures, wide):
    wanted = Explainer(wide.bundle).explain(pictures[0], 1).maps["score_cam"]
    made = [watch.explain(pictures[0], seconds)[0][0] for seconds in (0.05, 0.08, 0.15, 0.25)]
    runs, errors = zip(*((m.passes.run, 1 - correlation(m.maps["score_cam"], wanted)) for m in made), strict=True)
    assert list(runs) == sorted({*runs})
    assert errors[0] > errors[1] > errors[3]


def test_a_map_is_as_good_as_that_of_as_many_passes(watch, pictures, wide):
    exact = Explainer(wide.bundle)
    for picture in pictures:
        wanted = exact.explain(picture, 1).maps["score_cam"]
        (found,), _ = watch.explain(picture, 0.1)
        counted = Explainer(wide.bundle, budget=found.passes.run).explain(picture, 1)
        assert counted.passes.run == found.passes.run
        better = correlation(found.maps["score_cam"], wanted), correlation(counted.maps["score_cam"], wanted)
        assert better[0] > better[1] - 2e-3


def test_exact_where_exact_fits(watch, pictures, wide):
    wanted = Explainer(wide.bundle).explain(pictures[0], 1)
    for seconds in (0.4, 5.0):  # step by step, and all at once
        (found,), _ = watch.explain(pictures[0], seconds)
        assert found.passes == wanted.passes._replace(surprise=found.passes.surprise)
        assert found.flags == wanted.flags
        for method, m in wanted.maps.items():
            np.testing.assert_allclose(found.maps[method], m, atol=1e-6)


def test_the_first_explanation_has_no_pace_to_go_by(relayed, wide, pictures):
    (found,), seconds = Watch(relayed, wide.bundle).explain(pictures[0], 0.1)
    assert found.passes.run >= 10
    assert seconds <= 0.1 + RUN + 8 * PICTURE


@pytest.mark.parametrize("seconds", [1e-6, 0.001, LEAST - 0.001])
def test_a_deadline_shorter_than_the_least(watch, pictures, seconds):
    least = round(1000 * LEAST)
    with pytest.raises(UsageError, match=f"deadline of .*ms is too short .* takes at least {least}.* ms"):
        watch.explain(pictures[0], seconds)


def test_the_least_is_enough(watch, pictures):
    (found,), seconds = watch.explain(pictures[0], LEAST)
    assert seconds == pytest.approx(LEAST)
    assert found.passes.run == 10
    assert "late" not in found.flags


def test_a_machine_that_slows_down_to_half_is_in_time(watch, pictures):
    watch.slowness = 1.9
    (found,), seconds = watch.explain(pictures[0], 0.2)
    assert seconds <= 0.2 + 1.9 * (RUN + 8 * PICTURE)
    assert "late" not in found.flags


def test_a_deadline_that_was_missed_is_flagged(watch, pictures):
    watch.slowness = 10
    (found,), seconds = watch.explain(pictures[0], 0.06)
    assert seconds > 0.2
    assert "late" in found.flags


def test_what_a_request_waited_counts(watch, pictures):
    (found,), seconds = watch.explain(pictures[0], 0.2, waited=0.1)
    assert seconds <= 0.1
    (found,), seconds = watch.explain(pictures[0], 0.2, waited=0.5)
    assert found.flags[-1] == "late"
    assert found.passes.run == 10


def test_a_verdict_has_its_time(watch, pictures):
    for _ in range(2):  # its cost is expected, then known
        (found,), seconds = watch.explain(pictures[0], 0.25, verify=True)
        assert 0.2 < seconds <= 0.25
        assert found.verdict is not None
        assert found.passes.run > 23 + 20
        assert "late" not in found.flags


def test_several_classes_share_a_deadline(watch, pictures):
    made, seconds = watch.explain(pictures[0], 0.2, targets=[0, 1, 4])
    made, seconds = watch.explain(pictures[0], 0.2, targets=[0, 1, 4])
    assert len(made) == 3
    assert seconds <= 0.2
    assert made[0].passes.run > 1 + 3 * 3 + 16


def test_views_share_a_deadline(relayed, wide, pictures):
    watch = Watch(relayed, wide.bundle, smooth=["flip"])
    watch.explain(pictures[2], 0.3)
    (found,), seconds = watch.explain(pictures[0], 0.3)
    assert 0.25 < seconds <= 0.3
    once = Watch(relayed, wide.bundle)
    once.explain(pictures[2], 0.15)
    (alone,), _ = once.explain(pictures[0], 0.15)
    assert found.passes.run == pytest.approx(2 * alone.passes.run, rel=0.3)


def test_methods_without_passes_have_nothing_to_cut(watch, pictures):
    pipeline = watch.explainer.pipeline
    request = replace(watch.request(pictures[0], 0.03), methods=("grad_cam",))
    ((found,),) = pipeline.run([pipeline.task(request)], ["grad_cam"])
    assert (found.passes.run, found.passes.error) == (0, 0)
    assert {"late", "cut_short"}.isdisjoint(found.flags)


def test_an_explainer_rehearses(counted, wide, pictures):
    explainer, counter = counted(wide.bundle, budget="10s")
    assert explainer.pipeline.preferred.pace.seconds(8) > 0
    assert explainer.explain(pictures[0]).passes.error == 0
    assert counter.pictures > 0


def test_a_busy_moment_is_not_taken_for_the_least(relayed, wide, pictures):
    watch = Watch(relayed, wide.bundle, smooth=["flip"])
    watch.explainer.pipeline.rehearse(METHODS)
    watch.slowness = 1000
    (found,), seconds = watch.explain(pictures[0], 10)
    assert seconds > 70
    assert "late" in found.flags


def test_pictures_of_a_batch_have_their_time_for_themselves(wide, pictures):
    explainer = Explainer(wide.bundle, budget="10s")
    calls = []
    made = explainer.explain_batch(pictures, progress=lambda done, total: calls.append(done))
    assert [e.passes.error for e in made] == [0, 0, 0]
    of_one = [n for n, done in enumerate(calls) if n and done < calls[n - 1]]
    assert len(of_one) == 2  # one picture after the other
