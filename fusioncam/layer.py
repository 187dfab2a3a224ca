"""`Layer`, the part of a manifest that says by which tensor a bundle explains."""

from typing import Annotated

from pydantic import Field

from fusioncam.layer_names import short_layer_name
from fusioncam.preprocessing import Part, Positive


class Layer(Part):
    """The target layer of a bundle.

    Attributes:
        name: Its tensor in the source graph and in the graphs of the bundle.
        shape: (K, h, w) of the activations as the bundle returns them; (K, l) of a signal, (K, d, h, w) of a volume.
        roles: Meaning of the axes of the tensor itself: N, C, those of `PLACES`, or T for tokens in rows of the grid.
        offset: Tokens before those of the grid (the class token, registers).
        bypassed: Whether part of the evidence reaches the logits past it.
        early: Whether it was taken by default though it lies in the first third of the model, because no later layer
            could be read or seen by all the evidence.
        join: Where it is bypassed, a layer that is not.
        branches: Where no late layer sees everything, the layers that do so together with this one.
    """

    name: str
    shape: Annotated[tuple[Positive, ...], Field(min_length=2, max_length=4)]
    roles: Annotated[str, Field(pattern="^[NCLDHWT]{3,5}$")]
    offset: Annotated[int, Field(ge=0)] = 0
    bypassed: bool = False
    early: bool = False
    join: str | None = None
    branches: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Return the short name and the shape, as `features.18.2/Clip (1280 x 7 x 7)`."""
        return f"{short_layer_name(self.name)} ({' x '.join(map(str, self.shape))})"

    @property
    def grid(self) -> tuple[int, ...]:
        """Return (h, w) of the activations."""
        return self.shape[1:]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return sentences about the limits of the layer; most layers have none."""
        said = []
        if self.bypassed:
            said.append(f"part of the evidence reaches the scores past layer {self.name!r}: {self._way_out()}")
        if self.early:
            said.append(
                f"layer {self.name!r} lies in the first third of the model, as no later one could be read: its maps "
                f"show edges and textures; {self._way_out()}"
            )
        return tuple(said)

    def _way_out(self) -> str:
        if self.join is not None:
            return f"--layer {self.join!r} sees all of it"
        if self.branches:
            names = ", ".join(repr(b) for b in self.branches)
            return (
                f"export other bundles by --layer {names} and average their maps: `fusioncam explain A.fcam PHOTO "
                "--also B.fcam`, Explainer([A, B])"
            )
        return "choose another with --layer (`fusioncam inspect` lists them), or hold the maps against Score-CAM's"
