"""The repository of models: requests find a model here, and changes of the disk are taken over as a whole."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Self

from anyio import to_thread

from fusioncam.errors import FusionCamError
from fusioncam.manifest import MANIFEST, read_manifest
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.errors import NotLoadedError, UnknownModelError
from fusioncam.runtime.service.monitoring.logs import ERRORS
from fusioncam.runtime.service.protocol.schemas import IndexEntry
from fusioncam.runtime.service.repository.layout import bundles_by_version
from fusioncam.runtime.service.served_model import ONLY, ServedModel

UNLOADED, FAILED = "it was unloaded", "it is shutting down, or has failed"  # reasons of models that are not ready

OpenBatcher = Callable[[str, Path], Batcher]
Versions = dict[str, ServedModel]  # by version, the newest last


class Change(NamedTuple):
    """A change of one model: `load` opens what is new on the disk, `unload` ends the model."""

    action: Literal["load", "unload"]
    name: str


class ModelRepository:
    """The models that are served, by name and version.

    A change is staged first: new bundles are opened while the old ones answer. Then it is committed, in one step of the
    event loop, or dropped. Requests that began on an old bundle end there; then it is closed. A caller of
    `stage` makes one change at a time.

    Args:
        sources: Bundles, or folders of versions, by the names of their models.
        open_batcher: Opens the bundle of a model.
        absent: Names of models that are unloaded.
        released: Called after models were closed, so that their memory can be given back.

    Attributes:
        names: Names of all models, also of those that are unloaded.
    """

    def __init__(
        self,
        sources: Mapping[str, Path],
        open_batcher: OpenBatcher,
        absent: frozenset[str] = frozenset(),
        released: Callable[[], None] = lambda: None,
    ) -> None:
        self._sources, self._open_batcher, self._released = sources, open_batcher, released
        self.names = tuple(sources)
        self._served: dict[str, Versions] = {}
        self._staged: tuple[Change, Versions] | None = None
        self._changing = asyncio.Lock()
        self._closing: dict[asyncio.Task[None], ServedModel] = {}
        for name in sources:
            if name not in absent:
                self._served[name] = self._open(name)

    @classmethod
    def of(cls, batchers: Mapping[str, Batcher]) -> Self:
        """Return a repository of models that are open, by name."""
        repository = cls(dict.fromkeys(batchers, Path()), lambda name, _: batchers[name], frozenset(batchers))
        repository._served = {name: {ONLY: ServedModel(name, batcher)} for name, batcher in batchers.items()}
        return repository

    def find(self, name: str, version: str = "") -> ServedModel:
        """Return a model; without a version the newest.

        Raises:
            UnknownModelError: There is no such model or version, or it is unloaded.
        """
        versions = self.versions(name)
        if version and version not in versions:
            has = f"version {versions[0]}" if len(versions) == 1 else f"versions {', '.join(versions)}"
            raise UnknownModelError(f"model {name!r} has {has}, not {quote(version)}")
        return self._served[name][version or versions[-1]]

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the versions of a model, the newest last.

        Raises:
            UnknownModelError: There is no such model, or it is unloaded.
        """
        self._check_name(name)
        if name not in self._served:
            raise UnknownModelError(f"model {name!r} is not there: it was unloaded; load it, or ask for another")
        return tuple(self._served[name])

    def __iter__(self) -> Iterator[ServedModel]:
        """Iterate over all models in all versions."""
        return iter([model for versions in self._served.values() for model in versions.values()])

    def newest(self) -> list[ServedModel]:
        """Return all models in their newest version."""
        return [self.find(name) for name in self._served]

    def index(self, ready: bool = False) -> list[IndexEntry]:
        """Return an entry for each version of each model, and one for each model that is unloaded.

        Args:
            ready: Whether models that take no requests are left out.
        """
        entries = []
        for name in self.names:
            for version, model in self._served.get(name, {}).items():
                state, reason = ("READY", "") if model.batcher.ready else ("UNAVAILABLE", FAILED)
                entries.append(IndexEntry(name=name, version=version, state=state, reason=reason))
            if name not in self._served:
                entries.append(IndexEntry(name=name, version="", state="UNAVAILABLE", reason=UNLOADED))
        return [entry for entry in entries if entry.state == "READY" or not ready]

    async def make(self, change: Change) -> None:
        """Stage a change and commit it.

        Raises:
            FusionCamError: As of `stage`.
        """
        async with self._changing:
            await self.stage(change)
            self.commit()

    async def reload(self) -> None:
        """Load all models anew that are loaded; log those that cannot be."""
        for name in list(self._served):
            try:
                await self.make(Change("load", name))
            except FusionCamError as error:
                ERRORS.warning("%s", error)

    async def stage(self, change: Change) -> None:
        """Open the bundles that a change needs; those that are open and did not change stay as they are.

        Raises:
            UnknownModelError: There is no such model.
            NotLoadedError: A bundle cannot be opened. Nothing has changed.
        """
        self._check_name(change.name)
        versions: Versions = {}
        if change.action == "load":
            try:
                versions = await to_thread.run_sync(self._open, change.name, abandon_on_cancel=True)
            except FusionCamError as error:
                if change.name not in self._served:
                    raise NotLoadedError(f"model {change.name!r} stays unloaded: {error}") from error
                raise NotLoadedError(f"model {change.name!r} stays as it was: {error}") from error
        self._staged = change, versions

    def commit(self) -> None:
        """Answer by the staged bundles from now on; close those that they replace once their requests have ended."""
        assert self._staged is not None
        change, versions = self._staged
        self._staged = None
        old = self._served.pop(change.name, {})
        if versions:
            self._served[change.name] = versions
        ERRORS.info("model %r is served in versions: %s", change.name, ", ".join(versions) or "none")
        self._retire([model for model in old.values() if model not in versions.values()])

    def drop(self) -> None:
        """Close what was staged, and stay as it is."""
        if self._staged is not None:
            change, versions = self._staged
            kept = self._served.get(change.name, {}).values()
            self._staged = None
            self._retire([model for model in versions.values() if model not in kept])

    async def close(self) -> None:
        """Finish the admitted jobs of all models, and close them."""
        retired = dict(self._closing)
        for task in retired:
            task.cancel()
        await asyncio.gather(*(model.batcher.close() for model in (*self, *retired.values())))

    def _check_name(self, name: str) -> None:
        if name not in self.names:
            raise UnknownModelError(f"there is no model {quote(name)}; there are {', '.join(self.names)}")

    def _open(self, name: str) -> Versions:
        """Return the versions of a model as the disk has them, all or none."""
        versions: Versions = {}
        served = self._served.get(name, {})
        try:
            for version, folder in bundles_by_version(self._sources[name]).items():
                model = served.get(version)
                if model is None or not model.batcher.ready or _changed(model, folder):
                    model = ServedModel(name, self._open_batcher(name, folder), version)
                versions[version] = model
        except BaseException:
            for model in versions.values():
                if model not in served.values():
                    asyncio.run(model.batcher.close())
            raise
        return versions

    def _retire(self, models: list[ServedModel]) -> None:
        for model in models:
            task = asyncio.create_task(_close(model))
            self._closing[task] = model
            task.add_done_callback(self._closed)

    def _closed(self, task: "asyncio.Task[None]") -> None:
        del self._closing[task]
        self._released()


def _changed(model: ServedModel, folder: Path) -> bool:
    """Return whether a folder holds another bundle than a model's: manifests name the digests of all files."""
    return read_manifest(folder / MANIFEST) != model.manifest


async def _close(model: ServedModel) -> None:
    """Close a model once the requests that found it have ended."""
    await model.usage.end()
    await model.batcher.close()
