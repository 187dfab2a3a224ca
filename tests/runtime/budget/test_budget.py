import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.budget import (
    Auto,
    Evidence,
    auto,
    budget_json,
    checked_budget,
    parse_budget,
    plan_for,
)
from fusioncam.runtime.budget.channel_plan import AdaptivePlan, ExhaustivePlan
from fusioncam.runtime.budget.planning import FINEST, _shrunk

LIVE = np.arange(40)


def evidence():
    rng = np.random.default_rng(0)
    activations = rng.random((50, 3, 4)).astype(np.float32)
    return Evidence(activations, activations, [activations], [1.0])


@pytest.mark.parametrize("budget", ["exact", Auto(), auto(0.01), 1, 300, 0.01, 1.0, np.int64(7), np.float32(0.5)])
def test_budgets(budget):
    assert checked_budget(budget) == budget


@pytest.mark.parametrize("wrong", ["fast", "", None, True, 0, -3, 0.0, 1.5, -0.2, float("nan"), [], "0.5", b"auto"])
def test_what_is_no_budget(wrong):
    with pytest.raises(UsageError, match=r"no budget .*; use exact, auto, auto:0.01, a number of passes"):
        checked_budget(wrong)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("200", 200),
        ("0.2", 0.2),
        ("1e-05", 1e-5),
        ("2.5e-3", 2.5e-3),
        (".5", 0.5),
        ("1.0", 1.0),
        ("1", 1),
        (" auto ", Auto()),
        ("auto:1e-2", Auto(0.01)),
        ("auto:0.25", Auto(0.25)),
    ],
)
def test_budgets_of_the_command_line(text, budget):
    assert parse_budget(text) == budget
    assert type(parse_budget(text)) is type(budget)


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, -0.1, float("nan"), None, True, "0.1"])
def test_a_tolerance_is_between_0_and_1(tolerance):
    with pytest.raises(UsageError, match=r"no tolerance .*above 0 and below 1, like 0.001"):
        auto(tolerance)
    with pytest.raises(UsageError, match="no tolerance"):
        checked_budget(Auto(tolerance))


@pytest.mark.parametrize("text", ["auto:0.0", "auto:1.0", "auto:", "auto:much", "auto:2"])
def test_a_tolerance_of_the_command_line(text):
    with pytest.raises(UsageError, match="no tolerance"):
        parse_budget(text)


@pytest.mark.parametrize("budget", ["exact", Auto(), Auto(0.01), 64, 0.2])
def test_budgets_in_json(budget):
    assert checked_budget(budget_json(budget)) == budget


@pytest.mark.parametrize(
    "wrong", ["0", "0.0", "1.5", "-1", "nan", "inf", "much", "", ".", "1e2", "1_0", "64 passes", "9" * 12]
)
def test_what_is_no_budget_on_the_command_line(wrong):
    with pytest.raises(UsageError, match="no budget"):
        parse_budget(wrong)


@pytest.mark.parametrize(
    ("budget", "most"), [("exact", 40), (Auto(), 40), (44, 40), (43, 39), (5, 1), (0.5, 20), (0.01, 1), (1.0, 40)]
)
def test_how_many_channels_a_budget_reaches_for(budget, most):
    plan = plan_for(budget, LIVE, evidence, others=4, grain=8)
    assert plan.total == most
    assert isinstance(plan, ExhaustivePlan if budget in ("exact", 44, 1.0) else AdaptivePlan)


def test_exact_asks_for_no_evidence():
    def never():
        raise AssertionError

    plan_for("exact", LIVE, never, 4, 8)
    plan_for(Auto(), LIVE[:0], never, 4, 8)


@pytest.mark.parametrize("budget", [1, 4])
def test_a_budget_without_room_for_a_channel(budget):
    with pytest.raises(UsageError, match=f"budget of {budget} passes is too small: 4 are needed besides"):
        plan_for(budget, LIVE, evidence, others=4, grain=8)


@pytest.mark.parametrize("size", [(16, 16), (3, 5), (17, 4), (60, 80)])
def test_large_maps_are_compared_on_a_coarse_grid(size):
    maps = np.random.default_rng(0).random((3, *size)).astype(np.float32)
    small = _shrunk(maps)
    assert small.dtype == np.float64
    assert small.shape == (3, min(size[0], FINEST), min(size[1], FINEST))
    np.testing.assert_allclose(small.mean((1, 2)), maps.mean((1, 2)), rtol=0.02)
