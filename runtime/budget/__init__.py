"""Budgets of masked passes: a plan chooses which channels get a pass, by a posterior of their scores."""

from fusioncam.runtime.budget.kinds import Auto, Budget, auto, budget_json, checked_budget, parse_budget
from fusioncam.runtime.budget.planning import Evidence, plan_for

__all__ = ["Auto", "Budget", "Evidence", "auto", "budget_json", "checked_budget", "parse_budget", "plan_for"]
