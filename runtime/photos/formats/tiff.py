"""The tags of a TIFF's first picture, and refusal of the kinds of TIFF that OpenCV reads wrong."""

import struct
from collections.abc import Mapping
from typing import NamedTuple

BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANAR = 258, 259, 262, 274, 277, 284
TILE_WIDTH, EXTRA_SAMPLES, SAMPLE_FORMAT = 322, 338, 339
_USED = {BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANAR, TILE_WIDTH, EXTRA_SAMPLES, SAMPLE_FORMAT}
_MOST = 16  # values read of a tag: more than a pixel has channels

_TYPES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q"}
# Compressions that OpenCV's libtiff knows (TIFF 6.0 and its supplements).
_COMPRESSIONS = {1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946}
_COMPRESSION_NAMES = {
    34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL",
    52546: "JPEG XL", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34892: "lossy JPEG",
}  # fmt: skip
_COLOURS = {
    4: "is a transparency mask", 8: "has CIE Lab colours", 9: "has CIE Lab colours", 10: "has CIE Lab colours",
    32803: "holds a camera's raw pixels", 34892: "holds a camera's raw pixels",
    32844: "has logarithmic colours", 32845: "has logarithmic colours",
}  # fmt: skip
_FORMATS = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex"}
UNKNOWN_RANGE = "whose range is unknown: save it with 8 or 16 bits"


class Tag(NamedTuple):
    """A tag of a TIFF: its values, the place of the first value in the file, and the bytes of a value."""

    values: tuple[int, ...]
    at: int
    width: int


Tags = Mapping[int, Tag]


def is_tiff(data: bytes) -> bool:
    """Return whether a file is a TIFF, or a BigTIFF."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tags(data: bytes) -> dict[int, Tag]:
    """Return the tags of the first picture that matter here; of a damaged file, those that can be read."""
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    count_type, offset_type, entry = ("Q", "Q", 20) if big else ("H", "I", 12)
    tags: dict[int, Tag] = {}
    try:
        (at,) = struct.unpack_from(order + offset_type, data, 8 if big else 4)
        (count,) = struct.unpack_from(order + count_type, data, at)
        at += struct.calcsize(count_type)
        for place in range(at, at + entry * min(count, 4096), entry):
            number, kind = struct.unpack_from(order + "HH", data, place)
            if number not in _USED or kind not in _TYPES:
                continue
            (length,) = struct.unpack_from(order + offset_type, data, place + 4)
            where = place + 4 + struct.calcsize(offset_type)
            if length * struct.calcsize(_TYPES[kind]) > struct.calcsize(offset_type):
                (where,) = struct.unpack_from(order + offset_type, data, where)
            values = struct.unpack_from(f"{order}{min(length, _MOST)}{_TYPES[kind]}", data, where)
            tags[number] = Tag(values, where, struct.calcsize(_TYPES[kind]))
    except struct.error:
        pass
    return tags


def first_value(tags: Tags, number: int, default: int) -> int:
    """Return the first value of a tag, or the default where there is none."""
    return tags[number].values[0] if number in tags and tags[number].values else default


def refusal(data: bytes, tags: Tags) -> str | None:
    """Return the reason that OpenCV would read a file wrong or not at all; None where its tags show no reason."""
    bits, samples, colour = first_value(tags, BITS, 1), first_value(tags, SAMPLES, 1), first_value(tags, PHOTOMETRIC, 1)
    kind, compression = first_value(tags, SAMPLE_FORMAT, 1), first_value(tags, COMPRESSION, 1)
    if kind not in (1, 4) or bits > 16:
        return f"has {_FORMATS.get(kind, 'uint')}{bits} pixels, {UNKNOWN_RANGE}"
    if compression not in _COMPRESSIONS:
        named = _COMPRESSION_NAMES.get(compression, f"method {compression}")
        return f"is a TIFF compressed by {named}, which is not supported"
    if colour in _COLOURS:
        return f"is a TIFF that {_COLOURS[colour]}, which is not supported"
    if first_value(tags, PLANAR, 1) == 2 and samples > 1 and bits != 8:
        return f"is a TIFF of {bits} bits that keeps its channels apart, which is not supported"
    if data[:2] == b"MM" and 8 < bits < 16:
        return f"is a TIFF of {bits} bits in big-endian order, which is not supported"
    if bits > 8 and colour == 0:
        return f"is a TIFF of {bits} bits whose 0 is white, which is not supported"
    if TILE_WIDTH in tags and first_value(tags, ORIENTATION, 1) != 1:
        return "is a TIFF in tiles that is to be turned, which is not supported"
    if samples == 2 and has_associated_alpha(tags):
        return "is a grey TIFF multiplied by its alpha, which is not supported"
    return None


def has_associated_alpha(tags: Tags) -> bool:
    """Return whether colours were multiplied by their alpha."""
    return first_value(tags, EXTRA_SAMPLES, 0) == 1


def with_plain_alpha(data: bytes, tags: Tags) -> bytes:
    """Declare the alpha of a file a channel without meaning, so that OpenCV does not multiply by it."""
    if first_value(tags, EXTRA_SAMPLES, 0) != 2:
        return data
    _, at, width = tags[EXTRA_SAMPLES]
    return data[:at] + bytes(width) + data[at + width :]
