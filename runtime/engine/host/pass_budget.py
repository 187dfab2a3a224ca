"""The budget of one picture, in passes: what is spent, what is kept for later, and what is left for a method."""

import math
from dataclasses import dataclass

from fusioncam.errors import UsageError
from fusioncam.runtime.budget import Budget, Deadline
from fusioncam.runtime.engine.host.passes import MaskedPasses


@dataclass(frozen=True)
class PassBudget:
    """The budget of the masked passes of one picture.

    Attributes:
        whole: The budget.
        passes: The passes that it pays for.
        reserved: Passes of it that are kept for what follows the maps.
        levels: The number of levels of a detector that share what the user gave: the budget is the share of one.
    """

    whole: Budget
    passes: MaskedPasses
    reserved: int = 0
    levels: int = 1

    @property
    def in_time(self) -> bool:
        """Return True where the budget is a deadline."""
        return isinstance(self.whole, Deadline)

    @property
    def is_shared(self) -> bool:
        """Return True where what one method takes is lost to others: of a number of passes, and of a time."""
        return isinstance(self.whole, int | Deadline)

    def share(self, others: int, parts: int) -> Budget:
        """Return the budget of the first of so many parts, which share what `others` leave of a number of passes."""
        if parts == 1 or not isinstance(self.whole, int):
            return self.whole
        return others + (self.whole - others) // parts

    def afford(self, passes: int) -> None:
        """Raise UsageError where so many passes more, none of them of channels, are over the budget."""
        needed = self.passes.done + passes + self.reserved
        if isinstance(self.whole, int) and needed > self.whole:
            share = f", the share of one of {self.levels} levels," if self.levels > 1 else ""
            raise UsageError(f"a budget of {self.whole} passes{share} is too small: {needed} are needed")

    def of(self, most: int, fewest: int, passes_remaining: int) -> int:
        """Return how many of at most `most` passes there are, before others; raise UsageError where they are too few.

        Args:
            most: Passes that may be of use.
            fewest: Passes that a map needs.
            passes_remaining: Passes that later steps will ask for.
        """
        self.afford(fewest + passes_remaining)
        if isinstance(self.whole, int):
            return min(most, self.whole - self.passes.done - passes_remaining - self.reserved)
        return max(math.ceil(self.whole * most), fewest) if isinstance(self.whole, float) else most
