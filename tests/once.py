"""Things that the worker processes of a run share: the first that asks makes one, the others wait and take it."""

import os
import shutil

from filelock import FileLock


class Shared:
    """Folders that are made once for a run of tests, whatever the number of its processes."""

    def __init__(self, tmp_path_factory):
        base = tmp_path_factory.getbasetemp()
        self._root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def __call__(self, name, make):
        """The folder of that name, which `make` has filled; what failed is tried again by whoever asks next."""
        folder, made = self._root / name, self._root / f"{name}.made"
        with FileLock(self._root / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                made.touch()
        return folder
