"""Budgets of masked passes: a plan chooses which channels get a pass, by a posterior of their scores."""

from fusioncam.runtime.budget.kinds import (
    SHORTEST,
    Auto,
    Budget,
    Deadline,
    auto,
    budget_json,
    checked_budget,
    deadline,
    parse_budget,
)
from fusioncam.runtime.budget.planning import Evidence, plan_for

__all__ = [
    "SHORTEST",
    "Auto",
    "Budget",
    "Deadline",
    "Evidence",
    "auto",
    "budget_json",
    "checked_budget",
    "deadline",
    "parse_budget",
    "plan_for",
]
