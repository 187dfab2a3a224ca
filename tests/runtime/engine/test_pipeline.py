"""A pipeline that is used directly, without an Explainer before it."""

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.runtime.engine import ExplainRequest


@pytest.fixture
def pipeline(tiny):
    return Explainer(tiny.bundle).pipeline


def run(pipeline, *arguments):
    (explanations,) = pipeline.run([pipeline.task(ExplainRequest(*arguments))], ["fusion_cam"])
    return explanations


@pytest.mark.parametrize("targets", [np.array([1, 2]), (1, np.int32(2)), lambda p: np.array([1, 2]), lambda p: (1, 2)])
def test_targets_may_be_any_sequence(pipeline, tiny, pictures, targets):
    found = run(pipeline, pictures[0], targets)
    wanted = Explainer(tiny.bundle).explain_batch([pictures[0]], [[1, 2]])
    assert [e.class_index for e in found] == [1, 2]
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(f.maps["fusion_cam"], w.maps["fusion_cam"])


@pytest.mark.parametrize("targets", [[], np.array([], int), lambda p: []])
def test_no_target_is_no_explanation(pipeline, pictures, targets):
    assert run(pipeline, pictures[0], targets) == []


@pytest.mark.parametrize(("targets", "message"), [([5], "no class 5"), (lambda p: [-2], "no class -2"), (["a"], "'a'")])
def test_a_target_that_there_is_not(pipeline, pictures, targets, message):
    with pytest.raises(UsageError, match=message):
        run(pipeline, pictures[0], targets)
