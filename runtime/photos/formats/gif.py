"""The first frame of a GIF, without the others."""

_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B
_STRAY = 0  # some writers leave this byte between blocks, and other readers skip it


def first_frame(data: bytes) -> bytes:
    """Make a GIF of the first frame only, without extensions.

    Extensions hold transparency, which OpenCV fills with another colour than the frame's own. OpenCV also stops at a
    stray byte between blocks.

    Returns:
        The new file; `data` itself where it is not whole.
    """
    try:
        at = head = 13 + _colours(data[10])
        frames: list[bytes] = []
        while data[at] != _TRAILER:
            start = at
            if data[at] == _STRAY:
                at += 1
            elif data[at] == _EXTENSION:
                at = _after_blocks(data, at + 2)
            elif data[at] == _IMAGE:
                at = _after_blocks(data, at + 11 + _colours(data[at + 9]))
                frames = frames or [data[start:at]]
            else:
                return data
    except IndexError:
        return data
    return data[:head] + frames[0] + bytes([_TRAILER]) if frames else data


def _colours(packed: int) -> int:
    """Return the size of a table of colours in bytes."""
    return 3 << ((packed & 7) + 1) if packed & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    while data[at]:
        at += 1 + data[at]
    return at + 1
