"""The records of annotations, whatever file they come from."""

from dataclasses import dataclass
from typing import NamedTuple

from fusioncam.runtime.evaluation.annotations.outlines import Outline


class Problem(NamedTuple):
    """A part of the annotations that cannot be used as it is: of one photo, or of all (None)."""

    image: str | None
    text: str


@dataclass(frozen=True)
class AnnotatedObject:
    """One object in a photo.

    Attributes:
        outline: Its place.
        classes: Its classes of the model, none where the labels lack its name; None where the file gives no class.
        crowd: Whether it is a group of objects that nobody told apart, which no detection is to match.
    """

    outline: Outline
    classes: frozenset[int] | None
    crowd: bool = False


@dataclass(frozen=True)
class Entry:
    """The annotation of one photo.

    Attributes:
        names: Possible names of the photo, the surest first.
        size: (H, W) that the outlines refer to, where the file gives a size.
        accepted: Classes that count as right.
        objects: Its objects.
    """

    names: tuple[str, ...]
    size: tuple[int, int] | None = None
    accepted: frozenset[int] = frozenset()
    objects: tuple[AnnotatedObject, ...] = ()
