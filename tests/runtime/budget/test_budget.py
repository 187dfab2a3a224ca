import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.budget import (
    Auto,
    Deadline,
    Evidence,
    auto,
    budget_json,
    checked_budget,
    deadline,
    parse_budget,
    plan_for,
)
from fusioncam.runtime.budget.channel_plan import AdaptivePlan, ExhaustivePlan
from fusioncam.runtime.budget.planning import FEWEST, FINEST, _shrunk

LIVE = np.arange(50)


def evidence():
    rng = np.random.default_rng(0)
    activations = rng.random((50, 3, 4)).astype(np.float32)
    return Evidence(activations, activations, [activations], [1.0])


@pytest.mark.parametrize("budget", ["exact", Auto(), auto(0.01), 1, 300, 0.01, 1.0, np.int64(7), np.float32(0.5)])
def test_budgets(budget):
    assert checked_budget(budget) == budget


@pytest.mark.parametrize("wrong", ["fast", "", None, True, 0, -3, 0.0, 1.5, -0.2, float("nan"), [], "0.5", b"auto"])
def test_what_is_no_budget(wrong):
    with pytest.raises(UsageError, match=r"no budget .*; use exact, auto, auto:0.01, a time like 80ms"):
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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("80ms", 0.08), ("0.5s", 0.5), ("80 ms", 0.08), ("1.5ms", 0.0015), ("2s", 2), ("0.001ms", 1e-6), ("1000s", 1000)],
)
def test_deadlines_of_the_command_line(text, seconds):
    found = parse_budget(text)
    assert found == checked_budget(text) == deadline(seconds) == Deadline(seconds)
    assert parse_budget(str(found)) == found


def test_the_text_of_a_deadline():
    assert [str(deadline(s)) for s in (0.08, 0.5, 2, 0.0015, 1e-6)] == ["80ms", "500ms", "2000ms", "1.5ms", "0.001ms"]


@pytest.mark.parametrize("text", ["0ms", "0s", "-3ms", "0.0ms", "0.0001ms", "999999999s"])
def test_a_deadline_is_above_0(text):
    with pytest.raises(UsageError, match=f"no deadline '{text}': it is a time above 0, like 80ms or 0.5s"):
        parse_budget(text)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e-7, 2e6, None, True, "0.1", "80ms"])
def test_a_deadline_is_a_number_of_seconds(seconds):
    with pytest.raises(UsageError, match="no deadline"):
        deadline(seconds)
    with pytest.raises(UsageError, match="no deadline"):
        checked_budget(Deadline(seconds))


@pytest.mark.parametrize("text", ["nan ms", "1e3ms", "2min", "80  ms", "80 MS", "ms", "80m", "1_0ms", "1,5s"])
def test_what_is_no_deadline(text):
    with pytest.raises(UsageError, match=r"no budget .* a time like 80ms or 0.5s"):
        parse_budget(text)


@pytest.mark.parametrize("budget", ["exact", Auto(), Auto(0.01), 64, 0.2, Deadline(0.08), Deadline(1.25)])
def test_budgets_in_json(budget):
    assert checked_budget(budget_json(budget)) == budget


@pytest.mark.parametrize(
    "wrong", ["0", "0.0", "1.5", "-1", "nan", "inf", "much", "", ".", "1e2", "1_0", "64 passes", "9" * 12]
)
def test_what_is_no_budget_on_the_command_line(wrong):
    with pytest.raises(UsageError, match="no budget"):
        parse_budget(wrong)


@pytest.mark.parametrize(
    ("budget", "most"), [("exact", 50), (Auto(), 50), (54, 50), (43, 39), (5, 1), (0.5, 25), (0.01, 1), (1.0, 50)]
)
def test_how_many_channels_a_budget_reaches_for(budget, most):
    plan = plan_for(budget, LIVE, evidence, others=4, grain=8)
    assert plan.total == most
    assert isinstance(plan, ExhaustivePlan if budget in ("exact", 54, 1.0) else AdaptivePlan)


def test_exact_asks_for_no_evidence():
    def never():
        raise AssertionError

    plan_for("exact", LIVE, never, 4, 8)
    plan_for(Auto(), LIVE[:0], never, 4, 8)


@pytest.mark.parametrize("budget", [1, 4])
def test_a_budget_without_room_for_a_channel(budget):
    with pytest.raises(UsageError, match=f"budget of {budget} passes is too small: 4 are needed besides"):
        plan_for(budget, LIVE, evidence, others=4, grain=8)


def test_auto_guesses_among_many_only():
    assert isinstance(plan_for(Auto(), LIVE[:FEWEST], evidence, 4, 8), AdaptivePlan)
    assert isinstance(plan_for(Auto(), LIVE[: FEWEST - 1], evidence, 4, 8), ExhaustivePlan)
    assert isinstance(plan_for(20, LIVE[: FEWEST - 1], evidence, 4, 8), AdaptivePlan)


@pytest.mark.parametrize("unit", [1e-15, 1e15])
def test_the_estimated_error_does_not_depend_on_the_unit_of_activations(unit):
    def error(unit):
        given = evidence()
        scaled = given._replace(activations=given.activations * np.float32(unit), gradients=[given.gradients[0] / unit])
        plan = plan_for(20, LIVE, lambda: scaled, others=4, grain=8)
        asked = plan.next(0)
        plan.update(3 * given.activations[asked].mean((1, 2))[:, None].astype(np.float64), np.zeros(1))
        return plan.error

    assert 0 < error(1) < 1
    assert error(unit) == pytest.approx(error(1), rel=1e-3)


@pytest.mark.parametrize("size", [(16, 16), (3, 5), (17, 4), (60, 80)])
def test_large_maps_are_compared_on_a_coarse_grid(size):
    maps = np.random.default_rng(0).random((3, *size)).astype(np.float32)
    small = _shrunk(maps)
    assert small.dtype == np.float64
    assert small.shape == (3, min(size[0], FINEST), min(size[1], FINEST))
    np.testing.assert_allclose(small.mean((1, 2)), maps.mean((1, 2)), rtol=0.02)
