"""Lists on the command line: by commas as documented, or by spaces."""

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fusioncam.errors import UsageError


class Words(NamedTuple):
    """The words that a list can hold.

    Attributes:
        known: Returns the words by name; called when a list is completed, or goes on after a space.
        pattern: Of further words, which are no names.
        between: Pattern of what separates words, beside spaces.
    """

    known: Callable[[], Sequence[str]]
    pattern: str = "(?!)"
    between: str = ","

    def fits(self, text: str) -> bool:
        """Return whether a text is a word of the list, or several with commas between them."""
        words = parts(text)
        return bool(words) and all(re.fullmatch(self.pattern, w) or w in self.known() for w in words)


def _methods() -> Sequence[str]:
    from fusioncam.runtime.methods import EVERY

    return EVERY


def _metrics() -> Sequence[str]:
    from fusioncam.runtime.evaluation.metrics.catalogue import ASKED

    return ASKED


def _providers() -> Sequence[str]:
    from fusioncam.runtime.providers.table import PROVIDERS

    return [provider.short for provider in PROVIDERS]


NUMBER = r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?"

# By the metavar of the option.
LISTS = {
    "METHODS": Words(_methods, r"(union|fusion)_cam:\S+"),
    "METRICS": Words(_metrics),
    "PROVIDERS": Words(_providers, r"[\w-]+:\S+"),
    "VIEWS": Words(lambda: ("flip", "noise")),
    "BUDGETS": Words(lambda: ("exact", "auto"), r"auto:\S+|[0-9.]+(m?s)?"),
    "NUMBERS": Words(tuple, NUMBER),
    "ORDER": Words(lambda: ("rgb", "bgr", "grey", "bands"), r"[0-9]+"),
    "BANDS": Words(tuple, r"[0-9]+"),
    "CLASS": Words(tuple, r"[0-9]+"),
    "H,W": Words(lambda: ("any", "photo"), r"[0-9]+(x[0-9]+)*", "[,x]"),
}


def parts(text: str) -> list[str]:
    """Return the words of a list, which are separated by commas or spaces."""
    return text.replace(",", " ").split()


def size_of(text: str | None, *words: str) -> Any:
    """Return a size as functions take it: numbers, a word, or a word and numbers; None for None.

    Args:
        text: As `spelled_one_way` leaves it.
        words: The words that stand for sizes.

    Raises:
        UsageError: The text is no size.
    """
    if text is None or text in words:
        return text
    first, *rest = parts(text)
    numbers = rest if first in words else [first, *rest]
    if not all(number.isdecimal() for number in numbers):
        others = "".join(f" or {word}" for word in words)
        raise UsageError(f"--size takes whole numbers, H,W{others}, not {text!r}")
    return (*[first] * (first in words), *map(int, numbers))


def bands_of(text: str | None) -> tuple[int, ...] | None:
    """Return the numbers of bands, None for none; raise UsageError where a word is no whole number."""
    words = parts(text or "")
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"--bands takes one whole number or three, such as 4,3,2, not {text!r}")
    return None if text is None else tuple(map(int, words))


def numbers_of(option: str, text: str | None) -> float | tuple[float, ...] | None:
    """Return one number, or those of a list, None for none; raise UsageError where a word is no number."""
    if text is None:
        return None
    try:
        numbers = tuple(map(float, parts(text)))
    except ValueError as error:
        raise UsageError(f"{option} takes numbers, one or one per channel, not {text!r}") from error
    return numbers[0] if len(numbers) == 1 else numbers


def spelled_one_way(arguments: Sequence[str], parameters: Sequence[Any]) -> list[str]:
    """Return the arguments of a command with every list as the parser takes it.

    An option of several numbers (`--mean 1,1,1`) gets each number as an argument. The words of a list (`--methods
    grad_cam score_cam`) are joined by commas; an option that may be repeated is repeated (`-c 3 4`). A word that names
    a file is not part of a list.

    Args:
        arguments: As given.
        parameters: Of the command.
    """
    options = {name: parameter for parameter in parameters for name in parameter.opts if name.startswith("-")}
    waiting, spelled = deque(arguments), list[str]()
    while waiting and waiting[0] != "--":
        word = waiting.popleft()
        name, equals, value = word.partition("=")
        option = options.get(name)
        if option is None or option.is_flag or not (equals or waiting):
            spelled.append(word)
            continue
        if not equals:
            value = waiting.popleft()
        words = LISTS.get(option.metavar)
        if option.nargs > 1:
            numbers = re.split(r"[,x\s]+", value)
            spelled += [name, *(numbers if len(numbers) == option.nargs else [value])]
        elif words is None:
            spelled += [name, value]
        elif option.multiple:
            values = [part for v in (value, *_further(waiting, words)) for part in (parts(v) if words.fits(v) else [v])]
            spelled += [part for v in values for part in (name, v)]
        else:
            spelled += [name, re.sub(words.between, ",", ",".join((value, *_further(waiting, words))))]
    return [*spelled, *waiting]


def _further(waiting: deque[str], words: Words) -> Iterator[str]:
    """Take the words with which a list goes on after a space."""
    while waiting and words.fits(waiting[0]) and not Path(waiting[0]).exists():
        yield waiting.popleft()
