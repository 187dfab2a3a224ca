"""Sizes of the input that a call chooses: pipelines by size, and the bundles that are derived for them."""

import gc
import pickle
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import ImageError, UsageError
from fusioncam.export import export_model
from fusioncam.runtime.engine import Pipeline

OWN, OTHER = (24, 32), (40, 28)


@pytest.fixture(scope="module")
def bundle(free_nets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("any")
    export_model(free_nets.write(folder / "net.onnx", "resized"), folder / "any.fcam", size=("any", *OWN))
    return folder / "any.fcam"


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """The sizes of the pipelines that are opened, in order, with an empty cache."""
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path / "cache"))
    sizes, plain = [], Pipeline.open.__func__

    def watched(cls, bundles, *arguments):
        sizes.append(bundles[0].manifest.preprocessing.size)
        return plain(cls, bundles, *arguments)

    monkeypatch.setattr(Pipeline, "open", classmethod(watched))
    return sizes


@pytest.fixture
def derived(monkeypatch):
    """The sizes that are derived, in order."""
    import fusioncam.export.derivation as derivation

    sizes, plain = [], derivation.derive_bundle

    def watched(bundle, manifest, size, *arguments):
        sizes.append(size)
        return plain(bundle, manifest, size, *arguments)

    monkeypatch.setattr(derivation, "derive_bundle", watched)
    return sizes


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("kind", ["plain", "resized", "pooled"])
def test_maps_are_those_of_a_bundle_of_that_size(free_nets, tmp_path, kind):
    source, options = free_nets.write(tmp_path / "net.onnx", kind), {"preprocessing": "unit"}
    export_model(source, tmp_path / "any.fcam", size=("any", *OWN), **options)
    export_model(source, tmp_path / "sized.fcam", size=OTHER, **options)
    picture = photo(70, 50)
    with (
        Explainer(tmp_path / "any.fcam", smooth=("flip",)) as free,
        Explainer(tmp_path / "sized.fcam", smooth=("flip",)) as alone,
    ):
        ours, expected = free.explain(picture, size=OTHER, verify=True), alone.explain(picture, verify=True)
        drawn, drawn_alone = free.overlay(picture, size=OTHER), alone.overlay(picture)
        own = free.explain(picture)
    for method, array in expected.maps.items():
        assert array.shape == OTHER
        assert np.array_equal(ours.maps[method], array), method
        assert own.maps[method].shape == OWN
    assert np.array_equal(drawn, drawn_alone)
    assert (ours.verdict, ours.passes, ours.flags) == (expected.verdict, expected.passes, expected.flags)
    assert np.array_equal(ours.logits, expected.logits)
    # From export to picture: the map is laid on the photo by the geometry of its own size.
    assert ours.on_photo("fusion_cam").shape == (70, 50)
    assert np.array_equal(ours.overlay("fusion_cam", photo=picture), expected.overlay("fusion_cam", photo=picture))
    # The result names the bundle that was opened, not the one that was derived.
    assert (ours.model, ours.digest) == ("any.fcam", own.digest)


@pytest.mark.parametrize(("own", "other"), [((64,), (100,)), ((8, 12, 16), (10, 20, 14))])
def test_signals_and_volumes_have_any_size(free_nets, tmp_path, own, other):
    source = free_nets.write_places(tmp_path / "net.onnx", len(own))
    manifest = export_model(source, tmp_path / "any.fcam", size=("any", *own))
    export_model(source, tmp_path / "sized.fcam", size=other)
    assert manifest.free_size.step == (1,) * len(own)
    x = np.random.default_rng(2).standard_normal((2, *other)).astype(np.float32)
    with Explainer(tmp_path / "any.fcam") as free, Explainer(tmp_path / "sized.fcam") as alone:
        ours, expected = free.explain(x, size=other), alone.explain(x)
        with pytest.raises(UsageError, match=f"sizes of {len(own)} number"):
            free.explain(x, size=(*other, 5))
    for method, array in expected.maps.items():
        assert array.shape == other
        assert np.array_equal(ours.maps[method], array), method


def test_preprocessed_pictures_are_of_the_size_that_is_named(bundle):
    x = np.random.default_rng(1).standard_normal((3, *OTHER)).astype(np.float32)
    with Explainer(bundle, methods=["grad_cam"]) as explainer:
        assert explainer.explain(x, size=OTHER).maps["grad_cam"].shape == OTHER
        assert explainer.explain(x, size=np.array(OTHER)).maps["grad_cam"].shape == OTHER
        with pytest.raises(ImageError, match=r"float32 \(3, 24, 32\) array"):
            explainer.explain(x, size="photo")


def test_a_photo_is_explained_at_its_own_size(bundle, opened):
    pictures = [photo(50, 41, 0), photo(40, 30, 1), photo(50, 41, 2), photo(24, 32, 3), photo(40, 30, 4)]
    with Explainer(bundle, methods=["score_cam"]) as explainer:
        together = explainer.explain_batch(pictures, size="photo")
        # Those of one size follow each other, whatever their order.
        assert opened == [OWN, (50, 41), (40, 30)]
        for picture, explanation in zip(pictures, together, strict=True):
            alone = explainer.explain(picture, size="photo")
            assert explanation.maps["score_cam"].shape == picture.shape[:2]
            assert np.array_equal(explanation.maps["score_cam"], alone.maps["score_cam"])
        assert opened == [OWN, (50, 41), (40, 30)]


def test_the_last_used_sizes_are_kept(bundle, opened, derived):
    picture = photo(60, 60)
    with Explainer(bundle, methods=["grad_cam"], max_sizes=2) as explainer:
        for side in (28, 32):
            explainer.explain(picture, size=(side, side))
        first = weakref.ref(explainer.pipelines.at((28, 28)).preferred)
        second = weakref.ref(explainer.pipelines.at((32, 32)).preferred)
        explainer.explain(picture, size=(28, 28))
        explainer.explain(picture, size=(36, 36))
        assert explainer.pipelines.open_sizes == [(28, 28), (36, 36)]
        gc.collect()
        assert first() is not None
        assert second() is None  # its sessions are gone
        explainer.explain(picture, size=(32, 32))
        assert explainer.pipelines.open_sizes == [(36, 36), (32, 32)]
        last = weakref.ref(explainer.pipelines.at((36, 36)).preferred)
    gc.collect()
    assert last() is None
    assert opened == [OWN, (28, 28), (32, 32), (36, 36), (32, 32)]
    assert derived == [(28, 28), (32, 32), (36, 36)]  # what is in the cache is not derived again
    with pytest.raises(UsageError, match="closed"):
        explainer.explain(picture, size=(28, 28))


def test_threads_share_what_one_of_them_opens(bundle, opened, derived):
    picture, gate = photo(60, 60), threading.Barrier(6)
    with Explainer(bundle, methods=["score_cam"]) as explainer, ThreadPoolExecutor(6) as pool:

        def explain(n):
            gate.wait()
            return explainer.explain(picture, size=(28 + 4 * (n % 2), 28))

        made = list(pool.map(explain, range(6)))
        alone = [explainer.explain(picture, size=(28 + 4 * n, 28)) for n in range(2)]
    assert sorted(opened) == sorted([OWN, (28, 28), (32, 28)])
    assert sorted(derived) == [(28, 28), (32, 28)]
    for n, explanation in enumerate(made):
        assert np.array_equal(explanation.maps["score_cam"], alone[n % 2].maps["score_cam"])


def test_what_fails_is_tried_again(bundle, opened, monkeypatch):
    import fusioncam.runtime.engine.holder as holder

    plain, calls = holder.sized_bundle, []

    def fails_once(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise UsageError("not now")
        return plain(*arguments)

    monkeypatch.setattr(holder, "sized_bundle", fails_once)
    with Explainer(bundle, methods=["grad_cam"]) as explainer:
        with pytest.raises(UsageError, match="not now"):
            explainer.explain(photo(60, 60), size=OTHER)
        assert explainer.pipelines.open_sizes == []
        assert explainer.explain(photo(60, 60), size=OTHER).maps["grad_cam"].shape == OTHER


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((40,), "sizes of 2 numbers, such as 24 x 32, not 40"),
        ((0, 28), "a height of 1 or more, not 0"),
        ((40.5, 28), r"size is whole numbers, such as \(H, W\), or 'photo', not \(40.5, 28\)"),
        ("any", "size is .* or 'photo', not 'any'"),
        (64, "size is .* not 64"),
        ((100_000, 100_000), "pixels, more than 100000000"),
    ],
)
def test_bad_sizes(bundle, size, words):
    with Explainer(bundle, methods=["grad_cam"]) as explainer:
        for explain in (lambda p: explainer.explain(p, size=size), lambda p: explainer.explain_batch([p], size=size)):
            with pytest.raises(UsageError, match=words):
                explain(photo(30, 30))


def test_a_bundle_of_one_size_says_so(tiny):
    with Explainer(tiny.bundle, methods=["grad_cam"]) as explainer:
        assert explainer.explain(photo(30, 30), size=(24, 32)).maps["grad_cam"].shape == (24, 32)
        for size, words in ((OTHER, "not 40 x 28"), ("photo", "not that of each photo")):
            with pytest.raises(UsageError, match=f"for pictures of 24 x 32 only, {words}; .* --size any"):
                explainer.explain(photo(30, 30), size=size)


def test_bundles_of_several_layers_share_a_size(free_nets, tmp_path):
    source, names = free_nets.write(tmp_path / "net.onnx", "resized"), ("layer", "r1")
    for name in names:
        export_model(source, tmp_path / f"any-{name}.fcam", size=("any", *OWN), layer=name)
        export_model(source, tmp_path / f"{name}.fcam", size=OTHER, layer=name)
    picture = photo(50, 50)
    with (
        Explainer([tmp_path / f"any-{n}.fcam" for n in names]) as free,
        Explainer([tmp_path / f"{n}.fcam" for n in names]) as alone,
    ):
        ours, expected = free.explain(picture, size=OTHER), alone.explain(picture)
    for method, array in expected.maps.items():
        assert np.array_equal(ours.maps[method], array)


def test_a_pickled_explainer_opens_sizes_anew(bundle, opened):
    picture = photo(50, 50)
    with Explainer(bundle, methods=["grad_cam"]) as explainer:
        expected = explainer.explain(picture, size=OTHER)
        other = pickle.loads(pickle.dumps(explainer))
        for _ in range(2):
            assert np.array_equal(other.explain(picture, size=OTHER).maps["grad_cam"], expected.maps["grad_cam"])
        other.close()
    assert opened == [OWN, OTHER, OWN, OTHER]


def test_without_the_libraries_of_the_export_kept_sizes_serve_and_new_ones_are_refused(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path))
    with Explainer(bundle, methods=["grad_cam"]) as explainer:
        explainer.explain(photo(50, 50), size=OTHER)
    code = f"""
import sys
sys.modules["onnx_ir"] = None
import numpy as np
from fusioncam import Explainer, LibraryError
explainer = Explainer({str(bundle)!r}, methods=["grad_cam"], chunk=8)
picture = np.zeros((50, 50, 3), np.uint8)
assert explainer.explain(picture, size={OTHER}).maps["grad_cam"].shape == {OTHER}
try:
    explainer.explain(picture, size=(36, 36))
except LibraryError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("a size of 36 x 36 needs the export, which derives its graphs: the Python package onnx-ir")
    assert "export the model with --size 36 36 elsewhere" in said
