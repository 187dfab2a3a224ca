"""What an Explainer is asked for: any kind of number is taken, and what makes no sense is refused."""

import io
import weakref
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.export import export_model
from fusioncam.runtime.bench.bundle import BenchConfig
from fusioncam.runtime.engine import IN_FLIGHT
from fusioncam.runtime.evaluation.evaluator import EvaluationConfig, Evaluator
from fusioncam.runtime.service.settings import Settings
from fusioncam.runtime.service.workers.worker import _open_pipeline
from fusioncam.runtime.service.workers.worker_config import WorkerConfig
from fusioncam.runtime.sessions.open import open_session

UNIT = {"rescale": 1 / 255, "mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.fixture
def photo():
    return np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)


def test_batch_of_a_single_path_is_refused(tiny):
    with pytest.raises(UsageError, match="explain_batch takes a list"):
        Explainer(tiny.bundle).explain_batch("cat.png")


@pytest.mark.parametrize("wrong", [b"cat.png", Path("cat.png"), None, 5, np.zeros((24, 32, 3), np.uint8), io.BytesIO()])
def test_batch_of_what_is_no_list_is_refused(tiny, wrong):
    with pytest.raises(UsageError, match="explain_batch takes a list"):
        Explainer(tiny.bundle).explain_batch(wrong)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, None, "0.5", 0.5j, [0.5], np.array([0.5]), -0.1, 1.001, 2])
def test_an_opacity_that_makes_no_sense_is_refused_before_anything_is_run(tiny, counted, pictures, wrong):
    explainer, counter = counted(tiny.bundle)
    with pytest.raises(UsageError, match="opacity must be a number from 0 to 1"):
        explainer.overlay(pictures[0], opacity=wrong)
    assert counter.batches == []


@pytest.mark.parametrize("wrong", ["rainbow", [], {}, None, 1])
def test_a_colour_map_that_there_is_not_is_refused_before_anything_is_run(tiny, counted, pictures, wrong):
    explainer, counter = counted(tiny.bundle)
    with pytest.raises(UsageError, match=r"no colour map .*: choose one of cividis, inferno"):
        explainer.overlay(pictures[0], colormap=wrong)
    assert counter.batches == []


@pytest.mark.parametrize("given", [0, 1, np.float32(0.5), np.float64(0.5), np.int64(1), Fraction(1, 2)])
def test_an_opacity_of_any_kind_of_number(tiny, pictures, given):
    explainer = Explainer(tiny.bundle, methods=["grad_cam"])
    wanted = explainer.overlay(pictures[0], 1, method="grad_cam", opacity=float(given))
    np.testing.assert_array_equal(explainer.overlay(pictures[0], 1, method="grad_cam", opacity=given), wanted)


@pytest.mark.parametrize("wrong", [5, -2, 1000])
def test_a_class_out_of_range_is_refused_with_the_range(tiny, pictures, wrong):
    with pytest.raises(UsageError, match=f"no class {wrong}: the model has 5, 0 to 4"):
        Explainer(tiny.bundle).explain(pictures[0], wrong)


def test_a_class_is_named_as_on_the_command_line(tmp_path, tiny, photo):
    export_model(
        tiny.bundle.with_suffix(".onnx"), tmp_path / "named.fcam", layer="layer", preprocessing=UNIT,
        labels=["cat, tom", "dog", "crane", "n02391049 zebra", "crane, lifting"],
    )  # fmt: skip
    explainer = Explainer(tmp_path / "named.fcam", methods=["grad_cam"])
    assert [explainer.explain(photo, name).class_index for name in ("Tom", "dog", " zebra ", "3", np.str_("dog"))] == [
        0, 1, 3, 3, 1,
    ]  # fmt: skip
    found = explainer.explain_batch([photo] * 3, [["zebra", 0], None, "dog"])
    assert [e.class_index for e in found] == [3, 0, explainer.explain(photo).class_index, 1]
    assert [e.label for e in explainer.explain_batch(iter([photo] * 2), "tom")] == ["cat, tom"] * 2
    np.testing.assert_array_equal(
        explainer.overlay(photo, "dog", method="grad_cam"), explainer.overlay(photo, 1, method="grad_cam")
    )
    with pytest.raises(UsageError, match="several classes are called 'crane': 2, 4; give a number"):
        explainer.explain(photo, "crane")
    with pytest.raises(UsageError, match="no class is called 'zebr'; did you mean 'zebra'"):
        explainer.explain_batch([photo], ["zebr"])
    with pytest.raises(UsageError, match="the bundle has no labels to find 'dog' in"):
        Explainer(tiny.bundle).explain(photo, "dog")


def test_a_generator_is_asked_for_a_picture_when_its_turn_comes(tiny, photo):
    """A generator is asked one by one: not all pictures of a long run lie in memory."""
    held = []

    def photos():
        for _ in range(20):
            image = photo.copy()
            held.append(weakref.ref(image))
            assert sum(reference() is not None for reference in held) <= IN_FLIGHT + 2
            yield image

    assert len(Explainer(tiny.bundle, methods=["grad_cam"]).explain_batch(photos())) == 20


@pytest.mark.parametrize("wrong", [1.5, [1, 2], (1,), b"1", True, np.False_])
def test_a_class_that_is_no_whole_number_is_refused(tiny, pictures, wrong):
    with pytest.raises(UsageError, match="must be a whole number"):
        Explainer(tiny.bundle).explain(pictures[0], wrong)
    with pytest.raises(UsageError, match="must be a whole number"):
        Explainer(tiny.bundle).explain_batch([pictures[0]], wrong if wrong == b"1" else [[wrong]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["smooth_grad"]}, "'smooth_grad'.*fusion_cam"),
        ({"methods": []}, "no method chosen"),
        ({"methods": "grad_cam"}, "methods must be a list, not 'grad_cam'"),
        ({"methods": 5}, "methods must be a list, not 5"),
        ({"methods": [["grad_cam"]]}, "no method"),
        ({"budget": "fast"}, "'fast'"),
        *(({"chunk": c}, "chunk must be a whole number, 1 to 1048576$") for c in (0, -4, (1 << 20) + 1, 2**63)),
        *(({"chunk": c}, "chunk must be a whole number") for c in (True, 8.0, "8", [8], np.float32(8), 10**5000)),
        *(({"threads": n}, "threads must be a whole number, 1 to") for n in (0, -1, True, 1.0, "1", 2**63, 10**6)),
        ({"providers": "cpu"}, "providers must be a list, not 'cpu'"),
        ({"providers": []}, "name at least one provider"),
    ],
)
def test_senseless_options_are_refused(tiny, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        Explainer(tiny.bundle, **options)
    assert "\n" not in str(caught.value)


def test_numbers_of_any_kind(tiny, relayed, counted, pictures):
    explainer, counter = counted(tiny.bundle, chunk=np.int64(5), threads=np.int32(1), methods=["score_cam"])
    explainer.explain(pictures[0])
    assert counter.batches == [5, 5]
    _, relays = relayed(tiny.bundle, threads=np.int32(1))
    assert relays.explain.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize("allow", [True, False])
@pytest.mark.parametrize("who", ["explainer", "bench", "evaluation", "service"])
def test_whoever_explains_may_allow_the_cpu(tiny, injected, who, allow):
    asked = []

    def spy(*arguments, **options):
        asked.append(options.pop("allow_cpu", False))
        return open_session(*arguments, **options)

    openers = {
        "explainer": lambda: Explainer(tiny.bundle, allow_cpu=allow),
        "bench": lambda: BenchConfig(allow_cpu=allow).open(tiny.bundle, "exact"),
        "evaluation": lambda: Evaluator(EvaluationConfig(tiny.bundle, allow_cpu=allow)),
        "service": lambda: _open_pipeline(WorkerConfig({}, Settings(), allow_cpu=allow), tiny.bundle),
    }
    with injected(open_session=spy):
        openers[who]()
    assert asked == [allow] * 2
