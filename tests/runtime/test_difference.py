"""Why one class and not another."""

import json

import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.difference import difference
from fusioncam.runtime.explanation import Explanation, Passes


def explanation(index: int, label: str | None, seed: int, methods=("grad_cam", "score_cam"), size=(4, 6), flags=()):
    rng = np.random.default_rng(seed)
    maps = {m: rng.random(size, np.float32) for m in methods}
    return Explanation(maps, index, label, 0.1 * index, flags, Passes(9, 12), {"explain": 0.5})


ONE = explanation(1, "tabby, tabby cat", 1, flags=("cut_short",))
TWO = explanation(2, "Egyptian cat", 2, flags=("cut_short", "flat_grad_cam"))


def test_the_first_less_the_second():
    found = difference(ONE, TWO)
    assert list(found.maps) == ["grad_cam", "score_cam"]
    for method, signed in found.maps.items():
        np.testing.assert_array_equal(signed, ONE.maps[method] - TWO.maps[method])
        assert signed.dtype == np.float32
        np.testing.assert_array_equal(difference(TWO, ONE).maps[method], -signed)


def test_what_is_said_of_it():
    found = difference(ONE, TWO)
    assert found.title == "What speaks for tabby, what for Egyptian cat"
    assert found.flags == ("cut_short", "flat_grad_cam")
    summary = json.loads(json.dumps(found.summary()))
    assert (summary["class_index"], summary["label"], summary["probability"]) == (1, "tabby, tabby cat", 0.1)
    largest = summary["versus"].pop("largest_difference")
    assert largest == {method: pytest.approx(np.abs(m).max()) for method, m in found.maps.items()}
    assert summary["versus"] == {"class_index": 2, "label": "Egyptian cat", "probability": 0.2}
    assert found.facts["Probability"] == "tabby 0.10, Egyptian cat 0.20"
    assert set(summary["flags"]) == {"cut_short", "flat_grad_cam"}


@pytest.mark.parametrize(
    ("labels", "names"),
    [((None, None), ("class 1", "class 2")), (("crane", "crane, a machine"), ("crane (1)", "crane (2)"))],
)
def test_names_tell_the_classes_apart(labels, names):
    assert difference(explanation(1, labels[0], 1), explanation(2, labels[1], 2)).names == names


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (explanation(1, "tabby, tabby cat", 3), "compared with itself"),
        (explanation(2, None, 3, methods=("grad_cam",)), "by grad_cam, score_cam and by grad_cam; use the same"),
        (explanation(2, None, 3, size=(6, 4)), "not of the same picture"),
    ],
)
def test_what_cannot_be_compared(other, words):
    with pytest.raises(UsageError, match=words):
        difference(ONE, other)
