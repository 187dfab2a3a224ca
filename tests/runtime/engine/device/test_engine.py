"""The GPU's backend, with the CUDA kernels compiled for the CPU and onnxruntime bound to the same memory."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import FusionCamError, UsageError
from fusioncam.export import export_model
from fusioncam.kernels.specs import SPECS
from fusioncam.runtime.engine.device.engine import SMALL
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.methods import METHODS

TOLERANCE = 2e-6


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8, 64])
@pytest.mark.parametrize("classes", [[1], [-1, 4], [0, 1, 2, 3, 4, 0, 1]])
def test_maps_are_those_of_the_host(tiny, on_device, pictures, chunk, classes, assert_equal):
    found = on_device(tiny.bundle, chunk=chunk).explain_batch(pictures[:2], [classes] * 2)
    wanted = Explainer(tiny.bundle).explain_batch(pictures[:2], [classes] * 2)
    for f, w in zip(found, wanted, strict=True):
        assert_equal(f, w)
        assert f.maps["fusion_cam"].any()


@pytest.mark.parametrize("ending", [None, "Softmax", "Sigmoid"])
@pytest.mark.parametrize(
    ("zero", "constant"), [((), ()), (range(12), ()), ((), range(12)), (range(6), range(6, 12)), ((3,), (0, 11))]
)
def test_special_channels_and_endings(make_tiny, on_device, pictures, ending, zero, constant, assert_equal):
    made = make_tiny(ending=ending, zero=tuple(zero), constant=tuple(constant))
    found = on_device(made.bundle).explain(pictures[0], 2)
    assert_equal(found, Explainer(made.bundle).explain(pictures[0], 2))


@pytest.mark.parametrize("change", [lambda w: w["w4"].__imul__(1e-9), lambda w: w["w4"].__imul__(-1)])
def test_degenerate_and_mixed_contributions(make_tiny, on_device, pictures, change, assert_equal):
    made = make_tiny(change)
    for c in range(5):
        assert_equal(on_device(made.bundle).explain(pictures[1], c), Explainer(made.bundle).explain(pictures[1], c))


@pytest.mark.parametrize("methods", [("grad_cam",), ("score_cam",), ("fusion_cam",), ("score_cam", "grad_cam")])
def test_methods_come_alone(tiny, on_device, pictures, methods, assert_equal):
    found = on_device(tiny.bundle, methods).explain(pictures[0], 1)
    assert_equal(found, Explainer(tiny.bundle, methods=methods).explain(pictures[0], 1))


def test_one_picture_leaves_nothing_behind_for_the_next(tiny, on_device, pictures):
    explainer = on_device(tiny.bundle, chunk=3)
    first = explainer.explain(pictures[0], 1)
    explainer.explain_batch([pictures[1]], [[0, 2, 3, 4]])
    again = explainer.explain(pictures[0], 1)
    for method in METHODS:
        np.testing.assert_array_equal(first.maps[method], again.maps[method])


def test_a_half_precision_score_graph(tiny, on_device, tmp_path, pictures, assert_equal):
    model = tiny.bundle.parent / "tiny.onnx"
    manifest = export_model(model, tmp_path / "b.fcam", layer="layer", preprocessing="unit", precision="fp16")
    assert manifest.score_precision == "float16"
    found = on_device(tmp_path / "b.fcam").explain(pictures[0], 1)
    assert_equal(found, Explainer(tmp_path / "b.fcam").explain(pictures[0], 1), 2e-3)


def test_infinity_from_the_model_is_refused(tiny, on_device, pictures, assert_equal):
    explainer = on_device(tiny.bundle)
    with pytest.raises(FusionCamError, match=r"NaN or infinite logits.*check its preprocessing"):
        explainer.explain(pictures[0] * np.float32(1e37))
    assert_equal(explainer.explain(pictures[0], 1), Explainer(tiny.bundle).explain(pictures[0], 1))


@pytest.mark.parametrize("call", ["explain", "overlay"])
def test_nan_from_a_masked_pass_is_refused(tiny, on_device, pictures, call):
    explainer = on_device(tiny.bundle)

    engine = explainer.pipeline.preferred.state

    def broken():
        for logits in engine.picture.chunk_logits:
            engine.device.upload(np.full(logits.shape, np.nan, np.float32), logits.pointer, engine.stream)

    engine.passes.runs = dict.fromkeys(engine.passes.runs, broken)
    with pytest.raises(FusionCamError, match="NaN or infinite"):
        getattr(explainer, call)(pictures[0])


@pytest.mark.parametrize("logit", [np.nan, np.inf, -np.inf])
def test_one_logit_of_one_masked_pass_is_enough(tiny, on_device, pictures, logit):
    explainer = on_device(tiny.bundle, chunk=4)
    engine = explainer.pipeline.preferred.state
    run = engine.passes.runs[4, 1]

    def spoil():
        run()
        row = engine.picture.chunk_logits[1].rows(2, 3)
        engine.device.upload(np.array([0, 0, 0, 0, logit], np.float32), row.pointer, engine.stream)

    engine.passes.runs[4, 1] = spoil
    with pytest.raises(FusionCamError, match="NaN or infinite logits"):
        explainer.explain(pictures[0], 1)


def test_the_blank_picture_counts_even_for_score_cam_alone(make_tiny, on_device, pictures):
    explainer = on_device(make_tiny().bundle, ["score_cam"], chunk=13)
    engine = explainer.pipeline.preferred.state
    run = engine.passes.runs[13, 0]

    def spoil():
        run()
        row = engine.picture.chunk_logits[0].rows(12, 13)
        engine.device.upload(np.full(5, np.nan, np.float32), row.pointer, engine.stream)

    engine.passes.runs[13, 0] = spoil
    with pytest.raises(FusionCamError, match="NaN or infinite logits"):
        explainer.explain(pictures[0], 1)


@pytest.mark.parametrize("methods", [METHODS, ["score_cam"]])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_gradients_that_are_not_finite_are_refused(tiny, on_device, pictures, value, methods):
    explainer = on_device(tiny.bundle, methods)
    engine = explainer.pipeline.preferred.state
    (run,) = engine.explain_runs

    def spoil():
        run()
        engine.device.upload(np.full(48, value, np.float32), engine.classes.gradients.pointer, engine.stream)

    engine.explain_runs = [spoil]
    with pytest.raises(FusionCamError, match="NaN or infinite gradients"):
        explainer.explain(pictures[0], 1)


def test_more_classes_than_before_move_no_chunk(tiny, on_device, pictures, host_device, monkeypatch):
    explainer = on_device(tiny.bundle)
    engine = explainer.pipeline.preferred.state
    runs, picture = dict(engine.passes.runs), engine.picture
    for asked, most in ((1, 1), (3, 4), (4, 4), (2, 4), (5, 8)):
        explainer.explain_batch([pictures[0]], [range(asked)])
        assert engine.classes.most == len(engine.explain_runs) == most
    assert engine.passes.runs == runs
    assert engine.picture is picture


@pytest.mark.parametrize("error", [KeyboardInterrupt, FusionCamError])
@pytest.mark.parametrize("after", range(0, 42, 3))
def test_an_interrupted_growth_changes_nothing(
    tiny, on_device, pictures, host_device, monkeypatch, error, after, assert_equal
):
    explainer = on_device(tiny.bundle)
    wanted, calls = explainer.explain(pictures[0], 1), count()

    def interrupted(work):
        def call(*arguments):
            if next(calls) >= after:
                raise error("now")
            return work(*arguments)

        return call

    with monkeypatch.context() as patch:
        for name in ("allocate", "pinned", "upload"):
            patch.setattr(host_device, name, interrupted(getattr(host_device, name)))
        with pytest.raises(error):
            explainer.explain_batch([pictures[1]], [[1, 2]])
    assert_equal(explainer.explain(pictures[0], 1), wanted, 0)
    found = explainer.explain_batch([pictures[0]], [[2, 1]])[1]
    np.testing.assert_allclose(found.maps["fusion_cam"], wanted.maps["fusion_cam"], rtol=0, atol=TOLERANCE)


def test_the_callback_is_let_go(tiny, on_device, pictures):
    class Callback:
        def __call__(self, done, total):
            pass

    explainer, callback = on_device(tiny.bundle), Callback()
    gone = weakref.ref(callback)
    explainer.explain(pictures[0], 1, progress=callback)
    del callback
    gc.collect()
    assert gone() is None


def test_explaining_from_the_progress_callback_is_refused(tiny, on_device, pictures):
    explainer = on_device(tiny.bundle)
    with pytest.raises(UsageError, match="progress callback"):
        explainer.explain(pictures[0], 1, progress=lambda *_: explainer.overlay(pictures[1]))
    assert explainer.explain(pictures[0], 1).maps["fusion_cam"].any()


def test_a_session_that_fails_is_one_clear_error_and_no_standstill(tiny, on_device, pictures, assert_equal):
    explainer = on_device(tiny.bundle)
    passes = explainer.pipeline.preferred.state.passes
    runs = passes.runs

    class Broken:
        def __call__(self):
            raise FusionCamError("out of memory")

    passes.runs = dict.fromkeys(runs, Broken())
    with pytest.raises(FusionCamError, match="out of memory"):
        explainer.explain(pictures[0], 1)
    passes.runs = runs
    assert_equal(explainer.explain(pictures[0], 1), Explainer(tiny.bundle).explain(pictures[0], 1))


def test_progress_counts_the_passes(tiny, on_device, pictures):
    calls = []
    found = on_device(tiny.bundle, chunk=5).explain(pictures[0], 1, progress=lambda *call: calls.append(call))
    passes = 9 + 1 + 3
    assert found.passes == Passes(passes, 12)
    assert calls == [(5, passes), (10, passes), (11, passes), (12, passes), (13, passes)]
    assert set(found.timing) == {"preprocess", "explain", "masked_passes", "fusion"}


class Counter:
    """A session that counts its runs; inputs as for onnxruntime's."""

    def __init__(self, session, shapes):
        self.session, self._shapes = session, shapes

    def run_with_iobinding(self, binding, options):
        self._shapes.append(binding.get_outputs()[0].shape()[0])
        self.session.run_with_iobinding(binding, options)


@pytest.mark.parametrize(
    ("chunk", "sizes"), [(5, [5, 5, 4, 4, 4]), (8, [8, 4, 4, 4]), (16, [16, 4, 4]), (64, [4] * 5), (3, [3] * 6)]
)
def test_no_pass_too_many(tiny, on_device, pictures, chunk, sizes):
    explainer = on_device(tiny.bundle, chunk=chunk)
    seen, passes = [], explainer.pipeline.preferred.state.passes
    for run in passes.runs.values():
        object.__setattr__(run, "session", Counter(run.session, seen))
    explainer.explain(pictures[0], 1)
    explainer.explain(pictures[1], 1)
    assert SMALL == 4
    assert sorted(seen) == sorted(2 * sizes)


def test_nothing_is_allocated_for_a_picture(tiny, on_device, pictures, host_device, monkeypatch):
    explainer = on_device(tiny.bundle, chunk=16)
    monkeypatch.setattr(host_device, "allocate", None)
    before = host_device.launches
    explainer.explain(pictures[0], 1)
    first = host_device.launches - before
    explainer.explain(pictures[1], 2)
    assert host_device.launches - before == 2 * first
    assert first < 25  # two chunks of masks at most, and each small step once or twice


def test_every_kernel_of_the_maps_is_used(tiny, on_device, pictures, host_device, monkeypatch, tmp_path):
    used = set()
    run = host_device.run
    monkeypatch.setattr(host_device, "run", lambda kernel, *rest: (used.add(kernel), run(kernel, *rest)))
    on_device(tiny.bundle).explain(pictures[0], 1)
    model = tiny.bundle.parent / "tiny.onnx"
    export_model(model, tmp_path / "b.fcam", layer="layer", preprocessing="unit", precision="fp16")
    on_device(tmp_path / "b.fcam").explain(pictures[0], 1)
    on_device(tiny.bundle).overlay(pictures[0])
    assert used == set(SPECS)


@pytest.mark.parametrize("method", METHODS)
def test_overlays_are_those_of_the_host(tiny, on_device, pictures, method):
    found = on_device(tiny.bundle).overlay(pictures[0], 1, method=method, opacity=0.9)
    wanted = Explainer(tiny.bundle).overlay(pictures[0], 1, method=method, opacity=0.9)
    assert found.dtype == np.uint8
    assert abs(found.astype(int) - wanted).max() <= 1
    assert np.ptp(wanted.astype(int) - Explainer(tiny.bundle).overlay(pictures[0], 1, opacity=0)) > 50


def test_threads_take_turns(tiny, on_device, pictures):
    explainer = on_device(tiny.bundle)
    wanted = [explainer.explain(x, 1) for x in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: explainer.explain(pictures[i], 1), [0, 1, 2] * 3))
    for f, i in zip(found, [0, 1, 2] * 3, strict=True):
        np.testing.assert_array_equal(f.maps["fusion_cam"], wanted[i].maps["fusion_cam"])


@pytest.mark.parametrize("name", ["vww_person_mobilenetv1_025_96_logits", "cifar10_resnet8_32_softmax"])
def test_real_models(shared_assets, tmp_path, on_device, name, assert_equal):
    export_model(shared_assets / "models" / f"{name}.onnx", tmp_path / "b.fcam", preprocessing={"rescale": 1 / 255})
    photo = shared_assets / "images" / "winml_cat.jpg"
    found = on_device(tmp_path / "b.fcam").explain(photo)
    wanted = Explainer(tmp_path / "b.fcam").explain(photo)
    assert_equal(found, wanted, 1e-3)  # small gains blow up rounding: the shares are quotients of them
    for method in ("grad_cam", "score_cam"):
        np.testing.assert_allclose(found.maps[method], wanted.maps[method], rtol=0, atol=1e-5)
