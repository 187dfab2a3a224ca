import importlib.util

import onnx.defs
import onnxruntime
import pytest

from fusioncam.runtime.providers import naming
from fusioncam.runtime.providers.table import BY_NAME, PROVIDERS, SHAPE_OPERATORS, SHORT


def test_names_are_unique_and_onnxruntimes():
    assert len(SHORT) == len(BY_NAME) == len(PROVIDERS)
    assert {*BY_NAME} <= {*onnxruntime.get_all_providers()}


def test_the_operators_of_shape_computations_are_onnxs():
    assert {name for name in SHAPE_OPERATORS if not onnx.defs.has(name)} == set()


@pytest.mark.parametrize("spec", [s for s in PROVIDERS if s.plugin], ids=lambda spec: spec.short)
def test_wheels_say_what_the_table_says(spec):
    if importlib.util.find_spec(spec.plugin.module) is None:
        pytest.skip(f"needs the wheel of {spec.plugin.module}")
    assert importlib.import_module(spec.plugin.module).get_ep_names() == [spec.name]


def test_what_a_build_of_onnxruntime_holds_needs_no_plugin(monkeypatch):
    name = SHORT["openvino"].name
    monkeypatch.setattr(naming, "find_spec", lambda module: None)
    assert naming.spec_of(name).plugin is not None
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [name, "CPUExecutionProvider"])
    assert naming.spec_of(name).plugin is None
    monkeypatch.setattr(naming, "find_spec", lambda module: module)  # its wheel is there, and may have been loaded
    assert naming.spec_of(name).plugin is not None
    assert naming.spec_of(f"{name}:mine.so").plugin.library.name == "mine.so"
