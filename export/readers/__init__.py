"""Readers, which bring the outputs of a model into a normal form: their table, the choice, the function taken off."""

from fusioncam.export.readers.choice import Reading, by_roles, choose_reading
from fusioncam.export.readers.closing import find_map_ending, probable
from fusioncam.export.readers.request import Request, request_of
from fusioncam.export.readers.table import READERS, Reader, reader_named

__all__ = [
    "READERS",
    "Reader",
    "Reading",
    "Request",
    "by_roles",
    "choose_reading",
    "find_map_ending",
    "probable",
    "reader_named",
    "request_of",
]
