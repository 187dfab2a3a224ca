"""Names of endings, with the operators that they are written in."""

import pytest

from fusioncam.export.canonical import canonicalize

NAMES = {
    "softmax": "softmax",
    "log_softmax": "softmax",
    "written_out": "softmax, written as Exp / Sum / Div",
    "less_the_greatest": "softmax, written as Max / Sub / Exp / Sum / Div",
    "exp_of_log_softmax": "softmax, written as LogSoftmax / Exp",
    "normalised_sigmoids": "softmax, written as Sigmoid / Sum / Div",
    "hard_sigmoid": "sigmoid, written as HardSigmoid",
    "mean": "probabilities whose logits are out of reach: log p is explained",
    "product_of_sigmoids": "probabilities, each by itself, whose logits are out of reach: log p / (1 - p) is explained",
    "bare": "logits",
}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_named(name, ending, texts):
    text = (texts.SOFTMAX | texts.SIGMOID | texts.LOGITS).get(name) or texts.OUT_OF_REACH[name][1]
    assert canonicalize(ending(text)).source.text == NAMES[name]
