"""The spec of every kernel, by name."""

from fusioncam.kernels.spec import Spec
from fusioncam.kernels.specs import fuse, masks, overlay, reduce

SPECS: dict[str, Spec] = {spec.name: spec for module in (masks, reduce, fuse, overlay) for spec in module.SPECS}
