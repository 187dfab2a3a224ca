import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import FusionCamError, ImageError, UsageError
from fusioncam.export import export_model
from fusioncam.kernels import reference
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.sessions.masked_graph import MASKS


def assert_equal(found, wanted, tolerance=1e-6):
    assert (found.class_index, found.flags, found.passes) == (wanted.class_index, wanted.flags, wanted.passes)
    assert found.maps.keys() == wanted.maps.keys()
    for method in wanted.maps:
        np.testing.assert_allclose(found.maps[method], wanted.maps[method], rtol=0, atol=tolerance)


def test_skipping_channels_changes_nothing(make_tiny, counted, oracle, pictures):
    made = make_tiny(zero=(0, 4, 9), constant=(2, 7))
    explainer, counter = counted(made.bundle)
    found = explainer.explain(pictures[0], 1)
    live, channels = 7, 12
    assert found.passes == Passes(live + 1 + 3, channels)
    assert counter.pictures == live + 1 + 3
    activations, gradients = made.network.evidence(pictures[0], 1)
    reference = oracle(made.bundle)
    scores = reference.scores(pictures[0], 1, activations)
    neutral = reference.logits(pictures[0] * 0)[1]
    np.testing.assert_allclose(scores[[0, 4, 9, 2, 7]], neutral)
    assert np.ptp(scores) > 0.1
    for method, m in reference.maps(pictures[0], 1, activations, gradients).items():
        np.testing.assert_allclose(found.maps[method], m, atol=1e-4)


@pytest.mark.parametrize(("zero", "constant"), [(range(12), ()), ((), range(12)), (range(6), range(6, 12))])
def test_no_channel_is_live(make_tiny, counted, pictures, zero, constant):
    made = make_tiny(zero=tuple(zero), constant=tuple(constant))
    explainer, counter = counted(made.bundle)
    found = explainer.explain(pictures[0], 1)
    assert counter.pictures == found.passes.run == 1 + 3
    assert {"flat_grad_cam", "flat_score_cam", "flat_fusion_cam", "equal_contributions"} == set(found.flags)
    for m in found.maps.values():
        np.testing.assert_array_equal(m, np.zeros((24, 32)))


def negative_evidence(weights):
    """All channels speak against class 0."""
    weights["w3"], weights["b3"] = np.abs(weights["w3"]), np.abs(weights["b3"])
    weights["w4"][0] = -np.abs(weights["w4"][0])


def test_a_flat_gradient_map_is_blank_and_flagged(make_tiny, oracle, pictures):
    made = make_tiny(negative_evidence)
    found = Explainer(made.bundle).explain(pictures[0], 0)
    assert "flat_grad_cam" in found.flags
    assert not found.maps["grad_cam"].any()
    for method, m in oracle(made.bundle).maps(pictures[0], 0, *made.network.evidence(pictures[0], 0)).items():
        np.testing.assert_allclose(found.maps[method], m, atol=1e-4)


@pytest.mark.parametrize("methods", [("fusion_cam",), ("grad_cam",)])
def test_a_blank_part_is_flagged_where_it_matters(make_tiny, pictures, methods):
    found = Explainer(make_tiny(negative_evidence).bundle, methods=methods).explain(pictures[0], 0)
    assert "flat_grad_cam" in found.flags


def test_a_blind_model_has_equal_contributions(make_tiny, pictures):
    def blind(weights):
        weights["w4"] *= 1e-9

    found = Explainer(make_tiny(blind).bundle).explain(pictures[0], 1)
    assert found.flags.count("equal_contributions") == 1
    assert all(np.isfinite(m).all() for m in found.maps.values())


def test_mixed_contributions_are_flagged_once(tiny, pictures, monkeypatch):
    monkeypatch.setattr(reference, "contributions", lambda a, b: reference.Contributions(1.5, -0.5, False, True))
    found = Explainer(tiny.bundle).explain(pictures[0], 1)
    assert found.flags == ("mixed_contributions",)


def test_mixed_contributions_occur(tiny, oracle, pictures):
    """Some class of some picture loses by one map and gains by the other; then the flag is there, and only then."""
    explainer, confidence = Explainer(tiny.bundle), oracle(tiny.bundle).confidence
    seen = set()
    for x in pictures:
        for found in explainer.explain_batch([x], [list(range(5))]):
            c, maps = found.class_index, {k: m.astype(np.float64) for k, m in found.maps.items()}
            denoised, b0 = reference.denoise(maps["grad_cam"]), confidence(x * 0, c)
            first = [confidence(x * m, c) - b0 for m in (denoised, maps["score_cam"])]
            shares = reference.contributions(*first)
            united = reference.unite(denoised, maps["score_cam"], shares)
            second = (confidence(x * united, c) - b0, shares.second)
            assert ("mixed_contributions" in found.flags) == (first[0] * first[1] < 0 or second[0] * second[1] < 0)
            seen.add("mixed_contributions" in found.flags)
    assert seen == {True, False}


def test_unknown_preprocessing_is_flagged(tiny, tmp_path, pictures):
    export_model(tiny.bundle.parent / "tiny.onnx", tmp_path / "b.fcam", layer="layer")
    found = Explainer(tmp_path / "b.fcam", methods=["grad_cam"]).explain(pictures[0])
    assert "assumed_preprocessing" in found.flags
    assert "dark_picture" not in found.flags


@pytest.mark.parametrize(("bits", "dark"), [(8, True), (10, True), (12, True), (14, True), (15, False), (16, False)])
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_few_bits_in_a_file_of_sixteen_are_flagged(tiny, tmp_path, bits, dark, ending):
    deep = np.random.default_rng(bits).integers(0, 1 << bits, (40, 50, 3)).astype(np.uint16)
    deep[0, 0] = (1 << bits) - 1
    cv2.imwrite(str(tmp_path / f"deep.{ending}"), deep)
    found = Explainer(tiny.bundle, methods=["grad_cam"]).explain(tmp_path / f"deep.{ending}")
    assert ("dark_picture" in found.flags) == dark


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_in_the_picture_is_refused(tiny, pictures, value):
    x = pictures[0].copy()
    x[1, 2, 3] = value
    with pytest.raises(ImageError, match="NaN"):
        Explainer(tiny.bundle).explain(x)


def test_infinity_from_the_model_is_refused(tiny, pictures):
    with pytest.raises(FusionCamError, match=r"NaN or infinite logits.*check its preprocessing"):
        Explainer(tiny.bundle).explain(pictures[0] * np.float32(1e37))


def test_nan_from_a_masked_pass_is_refused(tiny, relayed, pictures):
    explainer, relays = relayed(tiny.bundle)

    class Broken:
        def run(self, outputs, feeds):
            return [np.full((len(feeds[MASKS]), 5), np.nan, np.float32)]

    relays.score.session = Broken()
    with pytest.raises(FusionCamError, match="NaN or infinite logits"):
        explainer.explain(pictures[0])


@pytest.mark.parametrize("classes", [[3], [0, 1], [4, 0, 2, 1], [1, 1, -1]])
def test_several_classes_share_the_passes(tiny, counted, pictures, classes):
    explainer, counter = counted(tiny.bundle)
    found = explainer.explain_batch([pictures[1]], [classes])
    live = 9
    assert counter.pictures == live + 1 + 3 * len(classes)
    for e, c in zip(found, classes, strict=True):
        assert e.passes == Passes(counter.pictures, 12)
        alone = Explainer(tiny.bundle).explain(pictures[1], c)
        for method in alone.maps:
            np.testing.assert_allclose(e.maps[method], alone.maps[method], atol=1e-6)
        assert (e.class_index, e.flags, e.probability) == (alone.class_index, alone.flags, alone.probability)


def test_batch_takes_classes_in_every_form(tiny, pictures):
    explainer = Explainer(tiny.bundle, methods=["grad_cam"])
    x, y = pictures[:2]
    top = [explainer.explain(p).class_index for p in (x, y)]

    def classes(given):
        return [e.class_index for e in explainer.explain_batch([x, y], given)]

    assert classes(None) == classes(-1) == classes([None, None]) == classes([-1, -1]) == top
    assert classes(2) == classes(np.int64(2)) == [2, 2]
    assert classes([3, 1]) == classes((3, 1)) == classes(np.array([3, 1])) == [3, 1]
    assert classes([[3, 1], [0]]) == [3, 1, 0]
    assert classes([None, (2, 4)]) == [top[0], 2, 4]
    assert classes([[], 1]) == [1]
    assert classes(np.array([[3, 1], [0, 2]])) == [3, 1, 0, 2]
    assert explainer.explain_batch([]) == []


def test_batch_equals_one_by_one(tiny, pictures):
    explainer = Explainer(tiny.bundle)
    for found, x in zip(explainer.explain_batch(pictures, 3), pictures, strict=True):
        assert_equal(found, explainer.explain(x, 3))


@pytest.mark.parametrize("given", [[1], [1, 2, 3], [], [[0, 1]]])
def test_batch_wants_an_entry_for_every_picture(tiny, pictures, given):
    with pytest.raises(UsageError, match=f"{len(given)} entries in class_index for 2 pictures"):
        Explainer(tiny.bundle).explain_batch(pictures[:2], given)


def test_a_wrong_class_in_a_batch_is_refused_before_anything_is_run(tiny, counted, pictures):
    explainer, counter = counted(tiny.bundle)
    with pytest.raises(UsageError, match="no class 7"):
        explainer.explain_batch(pictures[:2], [0, 7])
    assert counter.pictures == 0


def test_batch_takes_what_can_be_gone_through_once(tiny, pictures):
    explainer = Explainer(tiny.bundle, methods=["grad_cam"])
    for given in (iter(pictures), (x for x in pictures), tuple(pictures), np.stack(pictures)):
        found = explainer.explain_batch(given, [0, 1, [2, 3]])
        assert [e.class_index for e in found] == [0, 1, 2, 3]


def test_the_top_class_is_the_default(tiny, oracle, pictures):
    explainer = Explainer(tiny.bundle)
    for x in pictures:
        top = int(oracle(tiny.bundle).logits(x).argmax())
        for asked in (None, -1, np.int64(-1)):
            assert_equal(explainer.explain(x, asked), explainer.explain(x, top))
        assert type(explainer.explain(x, np.int64(top)).class_index) is int


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 16, 1000])
def test_the_chunk_size_changes_nothing(tiny, counted, pictures, chunk, pad):
    explainer, counter = counted(tiny.bundle, chunk=chunk)
    explainer.pipeline.preferred.scorer.pad = pad
    found = explainer.explain_batch([pictures[2]], [[1, 4]])
    wanted = Explainer(tiny.bundle).explain_batch([pictures[2]], [[1, 4]])
    for e, w in zip(found, wanted, strict=True):
        assert_equal(e, w, 1e-5)
    if pad:
        assert set(counter.batches) == {chunk}
    else:
        assert max(counter.batches) <= chunk
        assert counter.pictures == 9 + 1 + 6


def test_eight_threads_get_what_one_gets(tiny, pictures):
    explainer = Explainer(tiny.bundle, chunk=4)
    jobs = [(x, c) for x in pictures for c in range(5)] * 4
    wanted = [explainer.explain(x, c) for x, c in jobs]
    together = threading.Barrier(8)

    def work(index):
        if index < 8:
            together.wait(timeout=30)
        return explainer.explain(*jobs[index])

    with ThreadPoolExecutor(8) as pool:
        for found, alone in zip(pool.map(work, range(len(jobs))), wanted, strict=True):
            assert_equal(found, alone)


def test_progress_counts_every_pass(tiny, pictures):
    calls = []
    found = Explainer(tiny.bundle, chunk=4).explain(pictures[0], progress=lambda *call: calls.append(call))
    assert calls == [(4, 13), (8, 13), (11, 13), (12, 13), (13, 13)]
    assert found.passes.run == 13


def test_timing_covers_the_stages(tiny, pictures):
    timing = Explainer(tiny.bundle).explain(pictures[0]).timing
    assert set(timing) == {"preprocess", "explain", "masked_passes", "fusion"}
    assert all(seconds > 0 for seconds in timing.values())
