"""The output of `explain` for each photo as it ends: a line for people, JSON, or a line of JSON."""

from typing import Any

from fusioncam.errors import UsageError, error_json
from fusioncam.output import count
from fusioncam.runtime.commands import console
from fusioncam.runtime.flags import flag_text
from fusioncam.runtime.results.earlier import Record
from fusioncam.runtime.results.making import TargetResult
from fusioncam.runtime.results.run import Outcome

FORMS = ("text", "json", "jsonl")


class Report:
    """Prints what becomes of photos.

    Args:
        form: One of FORMS: a line for each explanation, one JSON document at the end, or a line of JSON for each photo.
        quiet: Whether to print no notes.
        above: The least probability of classes, for the note on a photo that has none.
    """

    def __init__(self, form: str, quiet: bool, above: float | None) -> None:
        self._form, self._quiet, self._above = form, quiet, above
        self._records: list[Record] = []
        self._failed: list[dict[str, str]] = []
        self._photos = self._failures = self._kept = 0

    @property
    def prints_lines(self) -> bool:
        """Return whether something is printed for each photo."""
        return self._form != "json"

    def add(self, outcome: Outcome) -> None:
        """Print what became of a photo."""
        self._photos += 1
        if outcome.error is not None:
            kind, message = outcome.error
            self._failures += 1
            console.complain(message)
            if self._form == "json":
                self._failed.append({"image": outcome.photo.shown_name, "error": message, "kind": kind})
        elif outcome.result is None:
            self._kept += 1
        elif not outcome.records:
            self._note(f"{outcome.photo.title}: no class has a probability of {self._above:g} or more")
        if self._form == "json":
            self._records += outcome.records
        elif self._form == "jsonl":
            console.say_json_line(_line_of(outcome))
        elif outcome.result is not None:
            for of_target, record in zip(outcome.result.targets, outcome.records, strict=True):
                console.say(_text(outcome.photo.title, of_target, record))

    def end(self, skipped: int, unsearched: int) -> int:
        """Print what is left to say, and return the exit status.

        Args:
            skipped: Number of files in folders that are no photos.
            unsearched: Number of subfolders that were passed over.

        Raises:
            UsageError: There was no photo at all.
        """
        if not self._photos:
            raise UsageError("no picture is named on standard input; write one name a line, or give some after BUNDLE")
        if self._form == "json":
            console.say_json({"explanations": self._records, "failed": self._failed, "kept": self._kept})
        if self._kept:
            self._note(f"the results of {count(self._kept, 'picture')} were there already, and were kept")
        if skipped:
            self._note(f"{count(skipped, 'other file')} in the folders {'was' if skipped == 1 else 'were'} skipped")
        if unsearched:
            verb = "was" if unsearched == 1 else "were"
            self._note(f"{count(unsearched, 'subfolder')} {verb} not searched; add -r")
        return console.FAILED if self._failures else console.DONE

    def _note(self, line: str) -> None:
        if not self._quiet:
            console.complain(line, "note")


def _line_of(outcome: Outcome) -> dict[str, Any]:
    """Return the line of JSON of a photo."""
    image = {"image": outcome.photo.shown_name}
    if outcome.error is not None:
        return image | error_json(*outcome.error)
    return image | {"explanations": outcome.records, "kept": outcome.result is None}


def _text(title: str, of_target: TargetResult, record: Record) -> str:
    passes, seconds = record["passes"], sum(record["timing_seconds"].values())
    error = f" (estimated error {passes['error']:.2g})" if passes["error"] else ""
    error += f" (standard error of RISE {passes['standard_error']:.2g})" if passes.get("standard_error") else ""
    flags = "".join(f"; {flag_text(flag)}" for flag in record["flags"] if flag != "assumed_preprocessing")
    verdict = f"\n  {of_target.verdict}" if of_target.verdict else ""
    return (
        f"{title}: {of_target.headline}, {passes['run']} passes for {passes['channels']} channels{error}, "
        f"{seconds:.1f} s -> {record.get('picture', record['maps'])}{flags}{verdict}"
    )
