"""Ways to spoil the bytes of a file."""

import random
from collections.abc import Callable

ByteMutation = Callable[[random.Random, bytearray], None]


def flip(rng: random.Random, data: bytearray) -> None:
    """Some bytes are others, most of them at the beginning or the end, where the structure is."""
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        near = min(len(data), rng.choice((64, 2000, len(data))))
        at = rng.randrange(near) if rng.random() < 0.5 else len(data) - 1 - rng.randrange(near)
        data[at] = rng.choice((0, 1, 127, 128, 255, data[at] ^ (1 << rng.randrange(8)), rng.randrange(256)))


def cut(rng: random.Random, data: bytearray) -> None:
    """The file ends early."""
    del data[rng.randrange(len(data)) :]


def insert(rng: random.Random, data: bytearray) -> None:
    """Some bytes are inserted: a length no longer fits."""
    at = rng.randrange(len(data))
    data[at:at] = rng.choice((rng.randbytes(rng.choice((1, 4, 100))), b"\xff" * 10, bytes(data[:50])))


def remove(rng: random.Random, data: bytearray) -> None:
    """Some bytes are left out."""
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 16, 300))]


def nest(rng: random.Random, data: bytearray) -> None:
    """A message within a message, and so on, without end."""
    inner = b""
    for _ in range(rng.choice((50, 99, 500))):
        length = len(inner) + 4
        inner = b"\x3a" + bytes(((length & 0x7F) | 0x80, length >> 7 & 0x7F)) + inner
    data += inner


OF_BYTES: tuple[ByteMutation, ...] = (flip, flip, cut, insert, remove, nest)
