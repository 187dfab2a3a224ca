"""Adding models to a Triton model repository: all of them, or none where anything goes wrong."""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fusioncam.errors import OutputError, UsageError, first_line
from fusioncam.export.triton.prototext import Message, text
from fusioncam.files import replace_file, temporary_folder

CONFIG = "config.pbtxt"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
MOST_VERSION = (1 << 31) - 1
_HEADER = "# Written by `fusioncam triton`: {what}, interface {interface}, text {digest}.\n"
_HEADER_READ = re.compile(_HEADER.format(what="(.{1,40})", interface="([0-9a-f]{16})", digest="([0-9a-f]{16})"))


@dataclass(frozen=True)
class Model:
    """A model to be added.

    Attributes:
        name: The name of the model and its folder.
        what: The kind of the model, as its configuration says; a new version must be of the same kind.
        config: The configuration.
        labels: Lines of labels.txt, one file for all versions.
        files: Functions that write the files of the version, by file name.
    """

    name: str
    what: str
    config: Message
    labels: Sequence[str] | None
    files: Mapping[str, Callable[[Path], object]] = field(repr=False)

    @property
    def interface(self) -> str:
        """Return a digest of the parts that clients see, the same for all versions of a model."""
        seen = [f for f in self.config if isinstance(f, tuple) and f[0] in ("max_batch_size", "input", "output")]
        return _digest(f"{seen} {list(self.labels or ())}")

    @property
    def config_text(self) -> str:
        """Return the text of config.pbtxt, which begins with its origin."""
        body = text(self.config)
        return _HEADER.format(what=self.what, interface=self.interface, digest=_digest(body)) + body


def _digest(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Written:
    """The result of adding models to a repository.

    Attributes:
        models: Names of the models; clients ask the last one, or the last two where both forms are there.
        version: The new version.
        edited: Models whose config.pbtxt was kept, since somebody had edited it.
    """

    models: tuple[str, ...]
    version: int
    edited: tuple[str, ...]


def real(repository: Path) -> Path:
    """Return the path of a repository, links followed; raises OutputError where it leads nowhere."""
    try:
        return repository.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, links in a circle, a null byte
        raise OutputError(f"{str(repository)!r} names no folder ({first_line(error)}); give another --repo") from error


def add(repository: Path, models: Sequence[Model], version: int | None) -> Written:
    """Add a version of some models.

    Args:
        repository: The folder, as `real` returns it, which is made if need be; other models in it stay unchanged.
        models: Models in the order of placing: a model that needs another one comes after it.
        version: The number of the version; by default 1, or the one after the highest of these models.

    Raises:
        UsageError: The version exists already, or is no number of a version.
        OutputError: The repository cannot be written, or holds something else by the name of a model.
    """
    try:
        if repository.exists() and not repository.is_dir():
            raise OutputError(f"{repository} is not a folder; give another --repo")
        known = {m.name: _known(repository / m.name, m) for m in models}
        version = _checked_version(version, known, repository)
        with _folder(repository), _beside(repository) as temporary:
            for m in models:
                _write(temporary / m.name, m, version)
            with ExitStack() as undo:  # takes the steps back, the last one first, if anything goes wrong
                for m in models:
                    _put(temporary / m.name, repository / m.name, m, version, undo)
                undo.pop_all()
    except OSError as error:
        said = error.strerror or error
        raise OutputError(f"cannot write to {repository} ({said}); give another --repo, or free some space") from error
    return Written(tuple(known), version, tuple(name for name, (_, edited) in known.items() if edited))


def _known(folder: Path, model: Model) -> tuple[set[int], bool]:
    """Return the versions of a model that exist, and whether somebody edited its configuration.

    Raises:
        OutputError: Something else has the name of the model.
    """
    if not os.path.lexists(folder):
        return set(), False
    remedy = "choose another --name"
    try:
        config = (folder / CONFIG).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeDecodeError):
        config = ""
    header = _HEADER_READ.match(config)
    if header is None:
        raise OutputError(f"{folder} exists already and was not written by `fusioncam triton`; {remedy}")
    what, interface, digest = header.groups()
    if what != model.what:
        raise OutputError(f"{folder} holds a {what}, not a {model.what}; {remedy}, or remove it")
    if interface != model.interface:
        raise OutputError(
            f"{folder} has other inputs, outputs or labels, but all versions of a model must have the same; {remedy}"
        )
    versions = {int(p.name) for p in folder.iterdir() if re.fullmatch("[0-9]{1,10}", p.name)}
    return versions, digest != _digest(config[header.end() :])


def _checked_version(asked: int | None, known: Mapping[str, tuple[set[int], bool]], repository: Path) -> int:
    taken = {v: name for name, (versions, _) in known.items() for v in versions}
    version = max(taken, default=0) + 1 if asked is None else asked
    if not 1 <= version <= MOST_VERSION:
        raise UsageError(f"a version is a whole number from 1 on, not {version}")
    if version in taken:
        raise UsageError(f"{repository / taken[version] / str(version)} exists already; give another --version")
    return version


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Make a folder and its parents; the new ones are removed if anything goes wrong."""
    made = [p for p in (path, *path.parents) if not p.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for p in made:
            with suppress(OSError):
                p.rmdir()
        raise


@contextmanager
def _beside(repository: Path) -> Iterator[Path]:
    """Yield a folder for unfinished models, on the same file system as the repository.

    The folder is outside of the repository where possible: a server that polls it takes every folder in it for a
    model, and complains.
    """
    outside = repository.parent.stat().st_dev == repository.stat().st_dev and os.access(repository.parent, os.W_OK)
    with temporary_folder(repository.parent if outside else repository) as temporary:
        yield temporary


def _quietly(step: Callable[[], object]) -> None:
    """Take a step back, whatever goes wrong."""
    with suppress(OSError, KeyboardInterrupt):
        step()


def _write(folder: Path, model: Model, version: int) -> None:
    """Write a whole model, with one version."""
    inner = folder / str(version)
    inner.mkdir(parents=True)
    (folder / CONFIG).write_text(model.config_text, encoding="utf-8")
    if model.labels is not None:
        (folder / "labels.txt").write_text(
            "".join(f"{' '.join(line.split())}\n" for line in model.labels), encoding="utf-8"
        )
    for name, write in model.files.items():
        write(inner / name)


def _put(new: Path, target: Path, model: Model, version: int, undo: ExitStack) -> None:
    """Move a model, or the new version of one that exists, to its place."""
    versions, edited = _known(target, model)  # again, since writing takes a while
    if not os.path.lexists(target):
        undo.callback(_quietly, lambda: _remove(target, unless=new))
        new.rename(target)
        return
    if version in versions:
        raise UsageError(f"{target / str(version)} exists already; give another --version")
    inner = new / str(version)
    undo.callback(_quietly, lambda: _remove(target / str(version), unless=inner))
    inner.rename(target / str(version))
    if not edited:
        before = (target / CONFIG).read_bytes()
        undo.callback(_quietly, lambda: replace_file(target / CONFIG, before))
        replace_file(target / CONFIG, model.config_text.encode())


def _remove(put: Path, unless: Path) -> None:
    """Remove a folder that was put in place, unless it is still at its origin."""
    if not unless.exists():
        shutil.rmtree(put)
