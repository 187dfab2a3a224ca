"""The options of an export in the signatures of the functions that take them."""

import inspect

import pytest

from fusioncam.export import export_model, export_torch
from fusioncam.export.options import DEFAULTS


@pytest.mark.parametrize("function", [export_model, export_torch])
def test_the_signature_has_every_option(function):
    parameters = inspect.signature(function).parameters
    assert {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY} == DEFAULTS


@pytest.mark.parametrize(
    ("arguments", "options"), [((), {}), (("m", "b", "e", "l"), {}), (("m", "b", "e"), {"layers": "l"})]
)
@pytest.mark.parametrize("function", [export_model, export_torch])
def test_a_wrong_call_names_the_function(function, arguments, options):
    with pytest.raises(TypeError, match=rf"^{function.__name__}\(\) "):
        function(*arguments, **options)
