"""The sizes of the runs that pass a number of pictures through the model."""

from dataclasses import dataclass

# A picture in a small run is taken to cost at most so many times what it costs in a whole chunk, of which a GPU makes
# more. Not measured: where it costs less, a tail of some pictures more could go to small runs.
SMALL_COST = 4


@dataclass(frozen=True)
class RunSizes:
    """Whole chunks, then the tail: the pictures that fill no chunk.

    Attributes:
        chunk: Pictures per run, at most.
        padded: Whether a run always has one of the sizes `chunk` and `small`, with pictures that do not count.
        small: Pictures in a run for a few, where it is padded; 0 for none.
    """

    chunk: int
    padded: bool = True
    small: int = 0

    def of(self, pictures: int) -> list[int]:
        """Return the size of each run; together they hold at least so many pictures."""
        chunks, tail = divmod(pictures, self.chunk)
        return [self.chunk] * chunks + (self._of_tail(tail) if tail else [])

    def _of_tail(self, tail: int) -> list[int]:
        if not self.padded:
            return [tail]
        if 0 < self.small < self.chunk:
            runs = -(-tail // self.small)
            if runs == 1 or SMALL_COST * runs * self.small <= self.chunk:
                return [self.small] * runs
        return [self.chunk]
