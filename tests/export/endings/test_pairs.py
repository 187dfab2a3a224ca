"""One logit for two outputs, or two for one."""

import numpy as np
import pytest

from fusioncam.export import check

PAIRS = {
    "p_and_1_less_p": ("p = Sigmoid (z) q = Sub (n1, p) y = Concat <axis = 1> (p, q)", -1),
    "1_less_p_and_p": ("p = Sigmoid (z) q = Sub (n1, p) y = Concat <axis = 1> (q, p)", 1),
    "in_percent": ("p = Sigmoid (z) q = Sub (n1, p) r = Concat <axis = 1> (q, p) y = Mul (r, n100)", 1),
    "softmax_of_0_and_z": ("n = Mul (z, n0) c = Concat <axis = 1> (n, z) y = Softmax <axis = 1> (c)", 1),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_outputs_of_one_logit(name, explained):
    text, sign = PAIRS[name]
    for c in (0, 1):
        found = explained(text, c, classes=1)
        source = found.manifest.source
        assert (found.manifest.classes, found.manifest.ending, source.outputs) == (2, "sigmoid", 2)
        assert np.allclose(found.probabilities, found.as_given(), atol=1e-6)
        assert found.points_along(found.weights[:, 0], sign if c else -sign), "either has its own evidence"
    assert all(f.ok for f in check(found.bundle))


SINGLES = {
    "percent": ("p = Sigmoid (z) y = Mul (p, n100)", 1, 1),
    "against": ("p = Sigmoid (z) y = Sub (n1, p)", 1, -1),
    "by_tanh": ("t = Tanh (z) u = Add (t, n1) y = Div (u, n2)", 1, 1),
    "hard": ("y = HardSigmoid (z)", 1, 1),
    "second_of_two": ("p = Softmax <axis = 1> (z) y = Gather <axis = 1> (p, from_1)", 2, 1),
}


@pytest.mark.parametrize("name", SINGLES)
def test_one_output_of_a_sigmoid(name, explained):
    text, classes, sign = SINGLES[name]
    found = explained(text, 1, classes=classes)
    source, weights = found.manifest.source, found.weights
    assert (found.manifest.classes, found.manifest.ending, source.ending, source.outputs) == (
        2,
        "sigmoid",
        "sigmoid",
        1,
    )
    assert found.probabilities[1] == pytest.approx(found.as_given()[0], abs=2e-6)
    assert found.points_along(weights[:, 1] - weights[:, 0] if classes == 2 else weights[:, 0], sign)
