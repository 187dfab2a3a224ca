"""The parser of requests by itself; both transports are tested where they are."""

import subprocess
import sys

import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.service.protocol.request_parser import parse_request

WEB_AND_TRITON = {"fastapi", "starlette", "triton_python_backend_utils"}


def test_choices_by_default():
    parsed = parse_request({}, {"other": 1})
    assert (parsed.classes(2, 5), parsed.methods, parsed.budget) == ([-1, -1], (), "exact")


@pytest.mark.parametrize("given", ["inputs", "parameters"])
def test_inputs_and_parameters_say_the_same(given):
    inputs = {"class_index": [3], "method": ["score_cam", "grad_cam"], "budget": ["0.5"]}
    parameters = {"class_index": 3, "method": " score_cam,grad_cam,", "budget": "0.5"}
    parsed = parse_request(inputs, {}) if given == "inputs" else parse_request({}, parameters)
    assert (parsed.classes(2, 5), parsed.methods, parsed.budget) == ([3, 3], ("score_cam", "grad_cam"), 0.5)


def test_a_class_for_each_picture():
    parsed = parse_request({"class_index": [0, -1, 4]}, {})
    assert parsed.classes(3, 5) == [0, -1, 4]
    with pytest.raises(UsageError, match="there is no class 4: the model has 4"):
        parsed.classes(3, 4)
    with pytest.raises(UsageError, match="3 class numbers for 2 pictures"):
        parsed.classes(2, 5)


@pytest.mark.parametrize("name", ["class_index", "method", "budget"])
def test_a_choice_is_made_once(name):
    with pytest.raises(UsageError, match=f"^{name} is given as an input and as a parameter: give it once$"):
        parse_request({name: [1]}, {name: 1})


def test_neither_the_web_nor_triton_is_needed():
    code = "import sys, fusioncam.runtime.service.protocol.request_parser; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert WEB_AND_TRITON.isdisjoint(modules.split())
