"""What an explanation costs, counted and not timed: an extra pass, copy or buffer fails here."""

import tracemalloc

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.kernels import masks
from fusioncam.manifest import CHUNK
from fusioncam.runtime.engine import ExplainRequest
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.sessions.masked_graph import MASKS, PICTURE

PIXELS, GRID = 24 * 32, 6 * 8  # of a picture and of a channel
PICTURE_BYTES, MASK_BYTES = 3 * PIXELS * 4, GRID * 4
ZERO, CONSTANT, CHANNELS = 2, 1, 12
LIVE = CHANNELS - ZERO - CONSTANT


class Meter:
    """A session that keeps what it is fed: bytes by input, and which arrays."""

    def __init__(self, session):
        self.session, self.runs = session, []

    def run(self, outputs, feeds):
        self.runs.append({name: array.nbytes for name, array in feeds.items()})
        return self.session.run(outputs, feeds)

    @property
    def bytes(self):
        return {name: sum(run[name] for run in self.runs) for name in (self.runs[0] if self.runs else ())}

    @property
    def sizes(self):
        return [run[MASKS] // MASK_BYTES for run in self.runs]


@pytest.fixture
def metered(tiny, relayed):
    """Opens an Explainer, with meters in its sessions."""

    def open_metered(**options):
        explainer, relays = relayed(tiny.bundle, **options)
        for relay in (relays.explain, relays.score):
            relay.session = Meter(relay.session)
        return explainer, relays.explain.session, relays.score.session

    return open_metered


@pytest.mark.parametrize("chunk", [1, 4, CHUNK, 100])
def test_runs_of_one_explanation(metered, pictures, chunk):
    explainer, explain, score = metered(chunk=chunk)
    explainer.explain(pictures[0], 1)
    together = LIVE + 2  # x * 0 and x * D ride along; x * R waits for them, x * U for x * R
    full, rest = divmod(together, chunk)
    assert sorted(score.sizes) == sorted([chunk] * full + [rest] * (rest > 0) + [1, 1])
    assert len(explain.runs) == 1


@pytest.mark.parametrize(
    ("methods", "pictures_passed"), [(["grad_cam"], 0), (["score_cam"], LIVE + 1), (["fusion_cam"], LIVE + 4)]
)
def test_pictures_passed_by_method(metered, pictures, methods, pictures_passed):
    explainer, explain, score = metered(methods=methods)
    explainer.explain(pictures[0], 1)
    assert (sum(score.sizes), len(explain.runs)) == (pictures_passed, 1)


def test_classes_of_a_picture_share_its_channels(metered, pictures):
    explainer, explain, score = metered()
    explainer.explain_batch([pictures[0]], [[0, 1, 2]])
    assert (sum(score.sizes), len(explain.runs)) == (LIVE + 1 + 3 * 3, 3)


def test_pictures_of_a_batch_leave_no_chunk_short_but_the_last(metered, pictures):
    explainer, explain, score = metered(chunk=4)
    explainer.explain_batch(pictures * 4, 1)
    assert (sum(score.sizes), len(explain.runs)) == (12 * (LIVE + 4), 12)
    assert len(score.runs) <= 12 * (LIVE + 4) / 4 + 3


def test_bytes_handed_to_the_sessions(metered, pictures):
    """Channels go as small masks beside one picture; pictures are made only where full-size maps ride along."""
    explainer, explain, score = metered(methods=["score_cam"], chunk=5)
    explainer.explain(pictures[0], 1)
    assert score.sizes == [5, 5]
    assert score.bytes[MASKS] == (LIVE + 1) * MASK_BYTES
    assert sorted(run[PICTURE] for run in score.runs) == [PICTURE_BYTES, 5 * PICTURE_BYTES]
    assert explain.bytes == {"image": PICTURE_BYTES, "class_index": 8}


def test_masks_are_made_once_per_picture(metered, pictures, monkeypatch):
    made, filled = [], []
    extremes, fill = masks.extremes, masks.MaskMaker.fill
    monkeypatch.setattr(masks, "extremes", lambda *a: made.append(len(a[0])) or extremes(*a))
    monkeypatch.setattr(masks.MaskMaker, "fill", lambda self, some, out: filled.extend(some) or fill(self, some, out))
    explainer, _, _ = metered()
    explainer.explain_batch(pictures[:2], [[0, 1], 1])
    assert made == [CHANNELS] * 2
    assert len(filled) == 2 * LIVE
    assert set(np.bincount(filled)[np.bincount(filled) > 0]) == {2}


class Silent:
    """A score session that costs nothing, so that only what is made around it is counted."""

    def run(self, outputs, feeds):
        return [np.tile(np.arange(5, dtype=np.float32), (len(feeds[MASKS]), 1))]


def peak(explainer, images):
    """The most bytes that NumPy holds at once while pictures are explained; other threads of this process add to it."""
    explainer.explain_batch(images, 1)
    return min(peak_of_a_run(explainer, images) for _ in range(3))


def peak_of_a_run(explainer, images):
    tracemalloc.start()
    try:
        pipeline = explainer.pipeline
        for _ in pipeline.run((pipeline.task(ExplainRequest(x, [1])) for x in images), METHODS):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_buffers_do_not_grow_with_the_number_of_pictures(tiny, pictures):
    explainer = Explainer(tiny.bundle)
    one, many = peak(explainer, pictures[:1]), peak(explainer, pictures * 7)
    # Chunks that pictures share hold those pictures; results are let go by whoever takes them. Steps are small.
    assert many < one + (CHUNK + 7) * PICTURE_BYTES


def test_full_size_buffers_of_an_explanation_are_few(tiny, relayed, pictures):
    """Beside the chunk with full-size maps, a handful of maps in float64."""
    explainer, relays = relayed(tiny.bundle)
    relays.score.session = Silent()
    assert peak(explainer, pictures[:1]) < CHUNK * PICTURE_BYTES + 14 * PIXELS * 8
