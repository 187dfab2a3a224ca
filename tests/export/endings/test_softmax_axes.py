"""A softmax over the batch, or over one number, is the fault of the model and told so."""

import pytest

from fusioncam.errors import ModelError
from fusioncam.export.canonical import canonicalize


@pytest.mark.parametrize("batch", ["N", 1, 2])
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_a_softmax_over_the_batch_is_the_models_fault(kind, batch, ending):
    with pytest.raises(ModelError, match=f"the model itself is wrong: its node 'y' is a {kind} over axis 0, the batch"):
        canonicalize(ending(f"y = {kind} <axis = 0> (z)", batch=batch))


def test_a_softmax_over_the_batch_that_comes_earlier(ending):
    with pytest.raises(ModelError, match=r"^the model's scores of an image depend on .*'p' \(Softmax\)"):
        canonicalize(ending("p = Softmax <axis = 0> (z) q = MatMul (p, groups) y = Relu (q)"))


def test_a_softmax_of_one_number(ending):
    text = "y = Softmax <axis = 1> (z)"
    with pytest.raises(
        ModelError, match=r"'y' is a Softmax over axis 1, one number, which is always 1 .*--ending sigmoid"
    ):
        canonicalize(ending(text, classes=1))
