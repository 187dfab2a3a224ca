"""The zoo: networks of libraries, their exports, and what becomes of them here."""

from zoo.building import build, example
from zoo.entry import Entry
from zoo.small import ENTRIES, TARGET_ENTRIES

__all__ = ["ENTRIES", "TARGET_ENTRIES", "Entry", "build", "example"]
