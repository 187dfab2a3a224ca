"""The choice of a chunk, on times that are given: nothing here is timed."""

import json
import threading

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import FusionCamError
from fusioncam.manifest import CHUNK, read_bundle
from fusioncam.runtime.sessions import chunk_tuning as tuning


@pytest.mark.parametrize(
    ("seconds", "chunk"),
    [
        ({8: 1.0}, 8),
        ({1: 1.0, 8: 1.0, 16: 1.0}, 8),
        ({4: 0.91, 8: 1.0, 32: 0.95}, 8),  # noise
        ({1: 2.0, 8: 1.0, 16: 0.8, 32: 0.7}, 32),
        ({1: 2.0, 8: 1.0, 16: 0.72, 32: 0.7}, 16),
        ({1: 0.7, 2: 0.5, 4: 0.51, 8: 1.0}, 2),
        ({1: 0.52, 2: 0.5, 8: 1.0}, 1),
        ({8: 1.0, 16: 0.93, 32: 0.89}, 32),  # 16 is nearly as quick, but no clear gain over 8
    ],
)
def test_choose(seconds, chunk):
    assert tuning.choose([seconds] * 3) == chunk
    assert tuning.choose([{n: 100 * s for n, s in seconds.items()}, *[seconds] * 2]) == chunk  # one slow turn
    assert tuning.choose([seconds] * 2) == tuning.choose([]) == 8


def test_a_size_must_be_quicker_every_turn():
    quick, even = {4: 0.5, 8: 1.0}, {4: 1.01, 8: 1.0}
    assert tuning.choose([quick] * 9) == 4
    assert tuning.choose([quick] * 9 + [even]) == 8


class Machine:
    """A clock, and a model that takes `each` seconds per run and `per` seconds per picture."""

    def __init__(self, each, per, fails_at=1000):
        self.now, self.each, self.per, self.fails_at, self.runs = 0.0, each, per, fails_at, []

    def clock(self):
        return self.now

    def run(self, n):
        self.runs.append(n)
        if n >= self.fails_at:
            raise FusionCamError("out of memory")
        self.now += self.each + n * self.per


def test_every_turn_passes_as_many_pictures_at_every_size():
    machine = Machine(1 / 1024, 1 / 4096)
    turns = tuning.measure(machine.run, [1, 2, 8], 10, machine.clock)
    assert machine.runs == [1, 2, 8] + ([1] * 8 + [2] * 4 + [8]) * tuning.MOST
    assert turns == [{n: 1 / 1024 / n + 1 / 4096 for n in (1, 2, 8)}] * tuning.MOST


@pytest.mark.parametrize("per", [1 / 512, 1 / 64, 1 / 16, 1 / 4, 2.0])
def test_a_slow_model_is_not_measured_for_long(per):
    machine = Machine(0, per)
    tuning.measure(machine.run, [1, 2, 4, 8, 16, 32], 1.0, machine.clock)
    assert machine.now <= max(1.0, per)
    assert machine.runs


def test_a_run_that_fails_ends_the_measurement():
    machine = Machine(0, 1 / 1024, fails_at=4)
    assert tuning.measure(machine.run, [1, 2, 4, 8], 1.0, machine.clock) == []
    assert machine.runs == [1, 2, 4]


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((32, 32), [1, 2, 4, 8, 16, 32]),
        ((160, 160), [1, 2, 4, 8, 16]),
        ((224, 224), [1, 2, 4, 8]),
        ((900, 9), [*(1, 2, 4, 8, 16, 32)]),
    ],
)
def test_large_pictures_are_tried_in_small_chunks_only(monkeypatch, size, sizes):
    monkeypatch.setattr(tuning, "SIZES", (1, 2, 4, 8, 16, 32))
    assert tuning.sizes_to_try((3, *size)) == sizes


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """Counts measurements, all of which find that 2 is best; the cache is an empty folder."""
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tuning, "SIZES", (1, 2, 8))
    calls = []
    monkeypatch.setattr(tuning, "measure", lambda run, sizes: calls.append(sizes) or [{1: 0.9, 2: 0.5, 8: 1.0}] * 3)
    return calls


def test_a_choice_is_remembered_for_bundle_threads_and_version(tiny, make_tiny, measured, monkeypatch):
    manifest, other = read_bundle(tiny.bundle), read_bundle(make_tiny(channels=5).bundle)
    ask = lambda *what: tuning.remembered_chunk(*what, None)  # noqa: E731
    assert [ask(manifest, None), ask(manifest, None)] == [2, 2]
    assert len(measured) == 1
    ask(other, None)
    ask(manifest, 1)
    assert len(measured) == 3
    for name, owner in (("onnxruntime.__version__", tuning), ("processor", tuning)):
        value = "9.9" if "version" in name else lambda: "another"
        monkeypatch.setattr(f"{owner.__name__}.{name}", value)
        ask(manifest, None)
        ask(manifest, None)
    assert len(measured) == 5


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"7", b'{"chunk": 3}', b'{"chunk": true}', b'{"chunk": "2"}', b"{}", b"\xff\x00", b"[" * 9999],
)
def test_a_bad_note_is_written_anew(tiny, measured, tmp_path, text):
    manifest = read_bundle(tiny.bundle)
    tuning.remembered_chunk(manifest, None, None)
    (note,) = (tmp_path / "cache" / "chunks").iterdir()
    good = note.read_bytes()
    note.write_bytes(text)
    assert tuning.remembered_chunk(manifest, None, None) == 2
    assert (len(measured), note.read_bytes()) == (2, good)
    assert json.loads(good)["chunk"] == 2


@pytest.mark.parametrize("cache", ["file", "file/below", "~nobody-of-that-name/cache"])
def test_a_cache_that_cannot_be_had_does_not_matter(tiny, measured, monkeypatch, tmp_path, cache):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FUSIONCAM_CACHE", cache if cache[0] == "~" else str(tmp_path / cache))
    assert tuning.remembered_chunk(read_bundle(tiny.bundle), None, None) == 2
    assert len(measured) == 1


def test_many_at_once(tiny, measured, tmp_path):
    manifest, found = read_bundle(tiny.bundle), []
    ask = lambda: found.append(tuning.remembered_chunk(manifest, None, None))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(16)]
    for action in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            action(thread)
    assert found == [2] * 16
    assert len(list((tmp_path / "cache" / "chunks").iterdir())) == 1


def test_the_explainer_takes_it_unless_told_otherwise(tiny, counted, measured, pictures):
    chosen, counter = counted(tiny.bundle, methods=["score_cam"])
    given, other = counted(tiny.bundle, methods=["score_cam"], chunk=5)
    assert len(measured) == 1
    one, two = (e.explain(pictures[0], 1).maps["score_cam"] for e in (chosen, given))
    assert (counter.batches, other.batches) == ([2] * 5, [5, 5])
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_real_measurement_finds_one_of_the_sizes(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "SIZES", (1, 2, 4, CHUNK))
    explainer = Explainer(tiny.bundle)
    (note,) = (tmp_path / "chunks").iterdir()
    told = json.loads(note.read_text())
    assert explainer.chunk == told["chunk"] in (1, 2, 4, CHUNK)
    assert all(set(turn) == {"1", "2", "4", "8"} for turn in told["seconds_per_picture"])
