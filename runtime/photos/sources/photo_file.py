"""The file of a photo, here or elsewhere, before it is read."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fusioncam.errors import ImageError
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.photos.decode import load_file
from fusioncam.runtime.photos.formats.nifti import affine_of
from fusioncam.runtime.photos.given import Given
from fusioncam.runtime.photos.reading import picture_of
from fusioncam.runtime.photos.sources.remote import (
    is_address,
    is_web_file,
    public,
    read_remote,
    version_of,
    without_logins,
)


@dataclass(frozen=True)
class PhotoFile:
    """The file of a photo, which is not read yet. Can be sent to other processes.

    Attributes:
        name: Path or address.
        place: Path within the folder that the user named, `/` between the parts; of a file that the user named, its
            name. Results have this path within their own folder.
        problem: Why there is no photo of this name; None where there seems to be one.
    """

    name: str
    place: str
    problem: str | None = None

    @classmethod
    def missing(cls, name: str, problem: str) -> Self:
        """Return what stands for a name without a photo."""
        return cls(name, "", without_logins(problem))

    @property
    def title(self) -> str:
        """Return the place, for one line about the photo, or the name where there is no photo."""
        return self.place or self.shown_name

    @property
    def shown_name(self) -> str:
        """Return the name as results and errors have it: an address without what may be secret."""
        return public(self.name) if self.is_remote else self.name

    @property
    def is_remote(self) -> bool:
        """Return whether the file is elsewhere."""
        return is_address(self.name) and not os.path.exists(self.name)  # noqa: PTH110  (a name may be too long)

    def read(self, preprocessing: Preprocessing) -> tuple[Given, str]:
        """Read the file, and return the picture as the model takes it, and what identifies the content of the file.

        Args:
            preprocessing: The model's own.

        Raises:
            ImageError: There is no such file, or it is no picture.
        """
        if self.problem is not None:
            raise ImageError(self.problem)
        data = read_remote(self.name) if self.is_remote else load_file(Path(self.name))
        version = version_of(self.name) if self.is_remote else None
        # From the web, what is refused of strangers, see `decode_image`.
        values = picture_of(data, repr(self.shown_name), preprocessing, declared=is_web_file(self.name))
        return Given.photo(values, self.shown_name, affine_of(data)), version or _digest(data)

    def fingerprint(self) -> str | None:
        """Return what identifies the content of the file now, if possible without reading it; None where it is gone."""
        try:
            if self.is_remote:
                return version_of(self.name) or _digest(read_remote(self.name))
            return _digest(load_file(Path(self.name)))
        except ImageError:
            return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
