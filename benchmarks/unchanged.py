"""Proof that a change of the code changes nothing for a user, bit for bit: digests of all that fusioncam makes.

    python benchmarks/unchanged.py store OLD.json [--quick]    # before, from the root of the checkout
    python benchmarks/unchanged.py store NEW.json [--quick]    # after, from the root of that one
    python benchmarks/unchanged.py compare OLD.json NEW.json   # what is missing, added or differs; then exit status 1

Maps, scores and logits of the shared models in all precisions, methods and budgets; the kernels under the shim; the
single graph and its unrolled form; preprocessings, picture files and endings; the files of bundles and Triton
repositories; the answers of commands, service and Triton's model. Times are left out. A part that raises is stored as
`error: ...`, and the next one goes on. --only maps,photos stores, or compares, some parts alone.
About six minutes on two idle cores, one with --quick. Digests hold for one machine and its packages only.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

QUICK = ("maps", "device", "graphs", "service", "triton")
PARTS = (*QUICK, "photos", "commands")
LARGE = ("maps", "graphs")  # the parts that take the large models, too
ALSO = {"maps": ("options",)}  # how names of a part begin, where not with its own


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return one line for every name that is missing from `new`, added to it, or of another digest."""
    lines = [f"missing: {name}" for name in old if name not in new]
    lines += [f"added: {name}" for name in new if name not in old]
    for name, was in old.items():
        if name in new and new[name] != was:
            said = [value for value in (was, new[name]) if value.startswith("error: ")]
            lines.append(f"differs: {name}" + (f" ({'; '.join(said)})" if said else ""))
    return lines


def compare(old: Path, new: Path, parts: Sequence[str] = ()) -> int:
    """Print the differences of two files, of some parts if any are named; return the exit status."""
    begins = tuple(f"{name}/" for part in parts for name in (part, *ALSO.get(part, ())))
    before, after = (
        {name: value for name, value in json.loads(path.read_text()).items() if not parts or name.startswith(begins)}
        for path in (old, new)
    )
    lines = differences(before, after)
    print("\n".join(lines) if lines else f"{len(after)} digests are the same")
    return bool(lines)


def store(file: Path, assets: Path, quick: bool, parts: Sequence[str]) -> int:
    """Write the digests of the tree that the current folder is the root of; return the exit status."""
    file, assets, tree = file.resolve(), assets.resolve(), Path.cwd().resolve()
    with tempfile.TemporaryDirectory(prefix="fusioncam-unchanged-") as folder:
        work = Path(folder).resolve()
        os.environ["FUSIONCAM_CACHE"] = str(work / "cache")  # no measurement of an earlier run counts
        import fusioncam

        if Path(fusioncam.__file__).resolve().parents[1] != tree:
            sys.exit(f"error: {fusioncam.__file__} is imported, not that of {tree}; run it in the checkout it is of")
        from unchanged.digests import Digests
        from unchanged.subjects import prepare

        digests = Digests(work)
        os.chdir(work)
        try:
            start = time.monotonic()
            subjects = prepare(digests, work, assets, quick, small=quick or not set(parts) & set(LARGE))
            print(f"bundles: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
            for part in parts:
                start = time.monotonic()
                with digests.part(part):
                    import_module(f"unchanged.{part}").run(digests, subjects)
                print(f"{part}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        finally:
            os.chdir(tree)
    errors = sum(value.startswith("error: ") for value in digests.values.values())
    file.write_text(json.dumps(digests.values, indent=0) + "\n")
    print(f"{len(digests.values)} digests, {errors} of them errors, of {tree}: {file}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two commands; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    storing = commands.add_parser("store", help="write {name: digest} of this checkout")
    storing.add_argument("file", type=Path)
    storing.add_argument("--assets", type=Path, default=Path("../shared/assets"), help="folder of models and photos")
    storing.add_argument("--quick", action="store_true", help="small models and one photo")
    comparing = commands.add_parser("compare", help="exit status 1 if anything is missing, added or differs")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    for command in (storing, comparing):
        command.add_argument("--only", default="", help=f"parts, separated by commas: {', '.join(PARTS)}")
    asked = parser.parse_args(arguments)
    parts = [part for part in asked.only.split(",") if part]
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if asked.command == "compare":
        return compare(asked.old, asked.new, parts)
    return store(asked.file, asked.assets, asked.quick, parts or (QUICK if asked.quick else PARTS))


if __name__ == "__main__":
    sys.exit(main())
