"""Conditions on a prediction that decide whether a picture is explained: `probability < 0.6 or class in zebra, lion`.

The language has two forms of clauses, joined by `and` and `or`, where `and` binds first. Nothing is evaluated as code.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.manifest import Manifest
from fusioncam.runtime.arguments import checked_class, quote
from fusioncam.runtime.labels import class_number

USE = "use clauses like probability < 0.6, class in zebra,lion or class not in 3,4, with and, or; or always, never"
COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda class_index, classes: class_index in classes,
    "not in": lambda class_index, classes: class_index not in classes,
}
MOST = 4096  # characters of a condition
_TOKEN = re.compile(r'\s*("[^"]*"|<=|>=|[<>,]|[^\s,<>"]+)\s*')
_NUMBER = re.compile(r"-?(?:[0-9]{1,9}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})")


@dataclass(frozen=True)
class Clause:
    """A comparison of one fact of a prediction.

    Attributes:
        fact: `probability` or `class`.
        comparison: One of `COMPARISONS`.
        value: A number, or names or numbers of classes; once bound, class indices.
    """

    fact: str
    comparison: str
    value: float | tuple[str, ...] | frozenset[int]

    def bound(self, manifest: Manifest) -> "Clause":
        """Return the clause for a model, with its classes by their indices; see `Condition.bound`."""
        if isinstance(self.value, tuple):
            return replace(self, value=frozenset(_class_index(manifest, name) for name in self.value))
        if isinstance(self.value, float) and manifest.ending != "value" and not 0 <= self.value <= 1:
            raise UsageError(f"a probability lies between 0 and 1: {self.value:g} in explain_if does not")
        return self

    def holds(self, facts: Mapping[str, float]) -> bool:
        """Return whether the comparison is true of a prediction."""
        return COMPARISONS[self.comparison](facts[self.fact], self.value)


@dataclass(frozen=True)
class Condition:
    """A condition on the class that would be explained, and on its probability.

    Attributes:
        text: The condition as its user writes it.
        alternatives: Clauses of which all must hold, for one alternative at least.
    """

    text: str
    alternatives: tuple[tuple[Clause, ...], ...]

    def bound(self, manifest: Manifest) -> "Condition":
        """Return the condition for a model.

        Raises:
            UsageError: The model has no such class, several classes share the name, or a number is no probability.
        """
        alternatives = tuple(tuple(clause.bound(manifest) for clause in every) for every in self.alternatives)
        return Condition(self.text, alternatives)

    def holds(self, class_index: int, probability: float) -> bool:
        """Return whether a prediction is to be explained."""
        facts = {"class": class_index, "probability": probability}
        return any(all(clause.holds(facts) for clause in every) for every in self.alternatives)

    def failing(self, class_index: int, probability: float) -> str:
        """Return the facts that speak against an explanation: `probability`, `class`, both, or `never`."""
        facts = {"class": class_index, "probability": probability}
        failing = {clause.fact for every in self.alternatives for clause in every if not clause.holds(facts)}
        return " and ".join(sorted(failing)) or "never"


def parse_condition(text: Any) -> Condition:
    """Return the condition that a user writes.

    Raises:
        UsageError: The text is no condition.
    """
    if not isinstance(text, str):
        raise UsageError(f"explain_if must be a text, not {quote(text)}; {USE}")
    return _parse(text)


@lru_cache(256)
def _parse(text: str) -> Condition:
    word = text.strip().lower()
    if word in ("always", "never"):
        return Condition(word, ((),) if word == "always" else ())
    alternatives, clause = [list[Clause]()], list[str]()
    for token in (*_tokens(text), "or"):
        if token.lower() not in ("and", "or"):
            clause.append(token)
            continue
        alternatives[-1].append(_clause(clause, text))
        clause = []
        if token.lower() == "or":
            alternatives.append([])
    return Condition(" ".join(text.split()), tuple(map(tuple, alternatives[:-1])))


def _tokens(text: str) -> list[str]:
    """Return words, signs, and names in double quotes; what a name holds there is never `and` or `or`."""
    tokens, at = [], 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or len(text) > MOST:
            raise _no_condition(text)
        tokens.append(found[1])
        at = found.end()
    return tokens


def _clause(tokens: Sequence[str], text: str) -> Clause:
    match [token.lower() for token in tokens]:
        case ["probability", "<" | "<=" | ">" | ">=" as comparison, number] if _NUMBER.fullmatch(number):
            return Clause("probability", comparison, float(number))
        case ["class", "in", *_]:
            return Clause("class", "in", _names(tokens[2:], text))
        case ["class", "not", "in", *_]:
            return Clause("class", "not in", _names(tokens[3:], text))
    raise _no_condition(text)


def _names(tokens: Sequence[str], text: str) -> tuple[str, ...]:
    """Return the names between commas; a name may be of several words."""
    names = [list[str]()]
    for token in tokens:
        if token == ",":
            names.append([])
        else:
            names[-1].append(token.strip('"'))
    joined = tuple(" ".join(words).strip(" '") for words in names)
    if not all(joined):
        raise _no_condition(text)
    return joined


def _class_index(manifest: Manifest, name: str) -> int:
    number = class_number(manifest, name)
    if number < 0:
        raise UsageError(f"there is no class {number} for explain_if to compare with")
    return checked_class(number, manifest.classes)


def _no_condition(text: str) -> UsageError:
    return UsageError(f"no condition {quote(text)}; {USE}")
