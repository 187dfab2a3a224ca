"""Short names of layers: exporters call tensors by long paths, which repeat themselves."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

LONGEST = 48  # characters of a short name
FIRST_OUTPUT = re.compile(r"(_output_0|:0)$")


def short_layer_name(name: str) -> str:
    """Return the short form of a layer's name, of at most 48 characters.

    `/features/features.18/features.18.2/Clip_output_0`, as torch exports, is `features.18.2/Clip`; of the names of
    fused layers, as TFLite joins them by semicolons, the first counts. Parts that the next part repeats are left out,
    then the first parts of a long path; a single part that is too long is cut in its middle.
    """
    path = FIRST_OUTPUT.sub("", name.strip(";").partition(";")[0]).strip("/") or name
    pairs = pairwise([*path.split("/"), ""])
    parts = [part for part, below in pairs if not f"{below}.".startswith(f"{part}.")]
    while len(parts) > 1 and len("/".join(parts)) > LONGEST:
        del parts[0]
    short = "/".join(parts) or name
    if len(short) <= LONGEST:
        return short
    head, tail = LONGEST // 2, LONGEST - LONGEST // 2 - 1
    return f"{short[:head]}…{short[-tail:]}"


def short_layer_names(names: Iterable[str]) -> dict[str, str]:
    """Return the short forms of the layers of one model by their names; equal short forms are not taken."""
    short = {name: short_layer_name(name) for name in names}
    counts = Counter(short.values())
    return {name: of_name if counts[of_name] == 1 else name for name, of_name in short.items()}
