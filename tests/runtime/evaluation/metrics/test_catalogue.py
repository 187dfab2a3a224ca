"""What is put together of several metrics, and what is wrong with a map."""

import numpy as np
import pytest

from fusioncam.runtime.evaluation.metrics.catalogue import (
    ASKED,
    FLAGS,
    METRICS,
    choices_of_metrics,
    fault,
    flags_of,
)
from fusioncam.runtime.evaluation.metrics.faithfulness import PROBES
from fusioncam.runtime.probes.measured import Measured, merged


def test_metrics_have_a_direction_and_a_source():
    assert {m.better for m in METRICS.values()} == {"higher", "lower"}
    assert all(m.label and "arXiv" in m.source for m in METRICS.values())


def test_the_table_says_which_option_measures_a_metric():
    assert {*ASKED} == {*PROBES}
    assert choices_of_metrics() == (
        "drop (with increase), insertion, deletion, road (with road_morf and road_lerf); "
        "--annotations adds pointing and energy, --sanity adds sanity"
    )


def test_parts_are_merged_and_flags_named_once():
    curve = np.arange(3.0)
    one = Measured({"drop": 0.25}, flags=("blank_map",))
    other = Measured({"insertion": 0.5}, {"insertion": curve}, ("road_nothing_kept", "blank_map"))
    found = merged([one, other])
    assert found.values == {"drop": 0.25, "insertion": 0.5}
    assert found.curves["insertion"] is curve
    assert found.flags == ("blank_map", "road_nothing_kept")
    assert set(found.flags) <= set(FLAGS)


@pytest.mark.parametrize(
    ("value", "flags"), [(0.0, ("blank_map",)), (np.nan, ("nan_map",)), (np.inf, ("nan_map",)), (0.5, ())]
)
def test_flags(value, flags):
    m = np.zeros((3, 4), np.float32)
    m[1, 2] = value
    assert flags_of(m) == flags


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "NaN"), (np.inf, "NaN or infinity"), (-0.1, "from -0.1"), (1.5, "to 1.5")],
)
def test_what_is_no_map(value, words):
    m = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    assert fault(m, (3, 4)) is None
    assert "(3, 4), not (4, 3)" in fault(m, (4, 3))
    m[1, 1] = value
    assert words in fault(m, (3, 4))
