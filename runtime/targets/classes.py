"""Targets of a vector of logits or values: classes and columns."""

from dataclasses import replace

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.manifest import Manifest
from fusioncam.runtime.arguments import checked_class
from fusioncam.runtime.labels import class_number
from fusioncam.runtime.targets.detections import name_of
from fusioncam.runtime.targets.kinds import Class, Target, Value
from fusioncam.runtime.targets.resolved import ResolvedTarget, of_class
from fusioncam.runtime.targets.sight import Sight


def checked_number(manifest: Manifest, class_: object) -> int:
    """Return a class, by number or name, as an index, -1 for none; raise UsageError where there is no such class."""
    return checked_class(class_number(manifest, class_) if isinstance(class_, str) else class_, manifest.classes)


def name_of_class(manifest: Manifest, c: int) -> str:
    """Return the label of a class, or its number, see `name_of`."""
    return name_of(manifest.labels[c] if manifest.labels else None, c)


def name_of_value(manifest: Manifest, column: int) -> str:
    """Return the label of a column, or its number."""
    return manifest.labels[column] if manifest.labels else f"value {column}"


def check_class(target: Class, manifest: Manifest) -> Target:
    """Return the target with its class by its number."""
    return Class(checked_number(manifest, target.class_))


def check_value(target: Value, manifest: Manifest) -> Target:
    """Return the target; raise UsageError where there is no such column."""
    count, column = count_of_values(manifest), target.column
    if isinstance(column, bool) or not isinstance(column, int | np.integer) or not 0 <= column < count:
        raise UsageError(f"there is no value {column!r}: the model gives {count}, from 0 on")
    return Value(int(column), bool(target.down))


def resolve_class(target: Class, sight: Sight) -> ResolvedTarget:
    """Return the target of a class."""
    return of_class(int(target.class_))


def resolve_value(target: Value, sight: Sight) -> ResolvedTarget:
    """Return the target of a column, negated for `down`; a single output z has two classes, of -z and of z."""
    one, labels = of_one_output(sight.manifest), sight.manifest.labels
    c = int(not target.down) if one else target.column
    resolved = replace(of_class(c), kind="value", label=None if labels else f"value {target.column}")
    if not target.down:
        return resolved
    return replace(resolved, sign=1 if one else -1, detail="" if one and labels else "down")


def count_of_values(manifest: Manifest) -> int:
    """Return the number of columns, of a vector of values or of heat maps."""
    return 1 if of_one_output(manifest) else manifest.classes


def of_one_output(manifest: Manifest) -> bool:
    """Return whether the model gives a single number, which has two classes."""
    return manifest.form.kind == "vector" and manifest.source.outputs == 1


def top_class(sight: Sight) -> list[Target]:
    """Return the class of the highest logit."""
    return [Class(int(sight.form.argmax()))]


def all_values(sight: Sight) -> list[Target]:
    """Return every column, of a vector or of heat maps."""
    return [Value(n) for n in range(count_of_values(sight.manifest))]
