"""The setting of a run: the networks and pictures it measures, and the number of rounds."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpu.subjects import Subject, folder_of_photos, from_file, made_up

TIMED = 1  # photos that every peer is timed on: some take a minute for each


@dataclass
class Setting:
    """The networks, pictures and rounds of a run.

    Attributes:
        folder: For bundles.
        networks: Networks with random weights, by name.
        models: ONNX files of pretrained ones.
        photos: Folder of photos for those.
        rounds: Runs of each candidate, in turns.
        threads: CPU threads of all of them.
        budgets: Of fusioncam.
        study: Photos on which budgets are compared.
        widths: Numbers of channels.
        chunks: Pictures per run of a session.
        images: Numbers of pictures whose memory is measured.
        narrow: The network with random weights whose passes are cheap enough for what has to be tried often.
        peers: Whether other packages take part.
        int8: Whether int8 bundles are made.
    """

    folder: Path
    networks: tuple[str, ...] = ("resnet18", "mobilenetv2")
    models: tuple[Path, ...] = ()
    photos: Path | None = None
    rounds: int = 5
    threads: int = 2
    budgets: tuple[Any, ...] = ("exact", "auto", 0.1, 0.2, 0.4)
    study: int = 8
    widths: tuple[int, ...] = (64, 256, 1024, 4096)
    chunks: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    images: tuple[int, ...] = (1, 4, 16)
    narrow: str = "wide-256"
    peers: bool = True
    int8: bool = True
    _subjects: dict[str, Subject] = field(default_factory=dict)

    def names(self) -> list[str]:
        """Return the names of all networks; a pretrained one replaces its namesake with random weights."""
        files = [path.stem for path in self.models]
        return [n for n in self.networks if not any(f.startswith(n) for f in files)] + files

    def subject(self, name: str) -> Subject:
        """Return a network, which is made once."""
        if name not in self._subjects:
            file = next((path for path in self.models if path.stem == name), None)
            if file is None or self.photos is None:
                self._subjects[name] = made_up(name, self.folder, self.study)
            else:
                self._subjects[name] = from_file(file, self.folder, folder_of_photos(self.photos, self.study))
        return self._subjects[name]
