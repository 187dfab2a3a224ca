"""The tensors of each task, and older manifests, which do not name theirs."""

import numpy as np
import pytest

from fusioncam.forms import form_of

FORMS = {
    ("classify", 5, None): ("vector", ("logits", (5,)), ["class_index"]),
    ("value", 2, None): ("vector", ("logits", (2,)), ["class_index"]),
    ("segment", 3, (4, 6)): ("maps", ("logits", (3, 4, 6)), ["class_index", "region", "peak"]),
    ("value", 1, (4, 6)): ("maps", ("logits", (1, 4, 6)), ["class_index", "region", "peak"]),
    ("embed", 8, None): ("embedding", ("embedding", (8,)), ["reference"]),
}


@pytest.mark.parametrize("task", FORMS)
def test_the_form_of_a_task(task):
    kind, output, targets = FORMS[task]
    form = form_of(*task)
    assert (form.kind, form.output[::2], [t.name for t in form.targets]) == (kind, output, targets)
    assert form.scored == (kind != "vector")
    for tensor in form.targets:
        made = form.placeholders(3)[tensor.name]
        assert (made.shape, made.dtype) == ((3, *tensor.shape), np.dtype(tensor.dtype))
