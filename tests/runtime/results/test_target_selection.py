"""Which classes of a picture are explained, and what is asked of the Explainer."""

import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.results.target_selection import TargetSelection

PHOTO = np.zeros((4, 4, 3), np.uint8)


class Recorder:
    """Stands for an Explainer: keeps what it is asked for, and finds class 2 on top."""

    asked: tuple = ()

    def explain_batch(self, images, class_index=None, **options):
        self.asked = (class_index, options)
        classes = class_index[0] or [-1] if class_index else range(options.get("top") or 2)
        return [
            Explanation({"grad_cam": np.ones((2, 2), np.float32)}, 2 if c == -1 else c, None, 0.5, (), Passes(0, 1), {})
            for c in classes
        ]


VERIFIED = {"verify": True}  # differences of classes have no verdict


@pytest.mark.parametrize(
    ("wanted", "classes", "options", "numbers"),
    [
        (TargetSelection(), [None], VERIFIED, [2]),
        (TargetSelection((3, 1)), [[3, 1]], VERIFIED, [3, 1]),
        (TargetSelection((3, 1, 3)), [[3, 1]], VERIFIED, [3, 1]),
        (TargetSelection((-1, 3, 2)), [[-1, 3, 2]], VERIFIED, [2, 3]),
        (TargetSelection((3, 3)), [[3]], VERIFIED, [3]),
        (TargetSelection((3,), versus=1), [[3, 1]], {}, [3]),
        (TargetSelection(versus=1), [[-1, 1]], {}, [2]),
        (TargetSelection(top=3), None, {"top": 3, "above": None, **VERIFIED}, [0, 1, 2]),
        (TargetSelection(above=0.25), None, {"top": None, "above": 0.25, **VERIFIED}, [0, 1]),
        (TargetSelection(above=0.0), None, {"top": None, "above": 0.0, **VERIFIED}, [0, 1]),
    ],
)
def test_one_call_for_all_classes_of_a_picture(wanted, classes, options, numbers):
    recorder = Recorder()
    found = wanted.explain(recorder, PHOTO, None, verify=True)
    assert recorder.asked == (classes, {**options, "progress": None})
    assert [e.class_index for e in found] == numbers


def test_the_top_class_cannot_be_compared_with_itself():
    with pytest.raises(UsageError, match="'class 2' cannot be compared with itself"):
        TargetSelection(versus=2).explain(Recorder(), PHOTO, None)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"classes": (1,), "top": 2}, "-c and --top are different ways"),
        ({"top": 2, "above": 0.5}, "--top and --above are different ways"),
        ({"classes": (1,), "top": 2, "above": 0.0}, "-c and --top and --above are"),
        ({"classes": (1, 2), "versus": 3}, "--versus compares two classes"),
        ({"top": 2, "versus": 3}, "--versus compares two classes"),
        ({"above": 0.5, "versus": 3}, "--versus compares two classes"),
        ({"classes": (3,), "versus": 3}, "compared with itself"),
    ],
)
def test_ways_that_contradict_each_other(wrong, words):
    with pytest.raises(UsageError, match=words):
        TargetSelection(**wrong)


def test_the_class_is_part_of_names_where_there_may_be_several():
    assert [
        w.several
        for w in (TargetSelection(), TargetSelection((1,)), TargetSelection((1,), versus=2), TargetSelection((1, 1)))
    ] == [False] * 4
    assert [w.several for w in (TargetSelection((1, 2)), TargetSelection(top=1), TargetSelection(above=0.5))] == [
        True
    ] * 3
