"""ROAD, remove and debias (Rong et al., arXiv 2202.00449): pixels are replaced by what their neighbours suggest.

The choice of pixels and the weights of their neighbours are those of pytorch-grad-cam 1.5, so figures can be compared.
"""

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, BoolArray, Float32Array
from fusioncam.runtime.probes.measured import Measured
from fusioncam.runtime.probes.probe import WHOLE, ZEROS, Key, Known, Maker, Map, Probe, Subject

PERCENTILES = (10, 20, 30, 40, 50, 60, 70, 80, 90)
NOISE = 0.01
ORDERS = ("road_morf", "road_lerf")  # the most relevant pixels go first, or the least relevant ones

NEIGHBOURS = {
    (row, column): 1 / 6 if 0 in (row, column) else 1 / 12
    for row in (-1, 0, 1)
    for column in (-1, 0, 1)
    if (row, column) != (0, 0)
}


def require_scipy() -> None:
    """Make sure that ROAD can be computed.

    Raises:
        UsageError: scipy is not installed.
    """
    if find_spec("scipy") is None:
        raise UsageError("ROAD needs scipy; pip install 'fusioncam[evaluate]', or leave road out")


def road_probe(subject: Subject, target: Map) -> Probe:
    """Return the probe of ROAD: the mean change of p_c over the percentiles, and half the difference of both orders."""
    makers: dict[Key, Maker] = {WHOLE: subject.shared[WHOLE]}
    keys: dict[str, list[Key]] = {}
    for order in ORDERS:
        keys[order] = []
        for percentile, limit in limits(target.saliency, order, subject.percentiles).items():
            key: Key = ZEROS
            make = subject.shared[ZEROS]  # where every pixel goes there is nothing to fill in from
            if limit is not None:
                key = ("road", target.name, order, percentile)
                make = _imputed(subject, target, order, limit)
            makers[key] = make
            keys[order].append(key)

    def read(known: Known) -> Measured:
        curves = {order: np.array([known[key] for key in of_order]) for order, of_order in keys.items()}
        values = {order: float(curve.mean()) - known[WHOLE] for order, curve in curves.items()}
        values["road"] = (values["road_lerf"] - values["road_morf"]) / 2
        lost = any(ZEROS in of_order for of_order in keys.values())
        return Measured(values, curves, ("road_nothing_kept",) if lost else ())

    return Probe(makers, read)


def _imputed(subject: Subject, target: Map, order: str, limit: np.floating) -> Maker:
    return lambda: imputed(subject.x, kept(target.saliency, order, limit), subject.noise)


def limits(saliency: Float32Array, order: str, percentiles: Sequence[int]) -> dict[int, np.floating | None]:
    """Return the values below which pixels of a map (H, W) are kept, by percentile; None where no pixel is kept."""
    ranked = _ranked(saliency, order)
    values = {p: np.percentile(ranked, p) for p in percentiles}
    return {p: limit if ranked.min() < limit else None for p, limit in values.items()}


def kept(saliency: Float32Array, order: str, limit: np.floating) -> BoolArray:
    """Return the mask (H, W) of the pixels that stay."""
    return np.asarray(_ranked(saliency, order) < limit)


def _ranked(saliency: Float32Array, order: str) -> Float32Array:
    return saliency if order == "road_morf" else 1 - saliency


def imputed(x: Float32Array, stay: BoolArray, noise: Float32Array | None = None) -> Float32Array:
    """Return the picture with all other pixels filled in: each is the weighted mean of its neighbours in the picture.

    Direct neighbours weigh 1/6, diagonal ones 1/12. The missing pixels solve one sparse, symmetric system.

    Args:
        x: The picture (C, H, W).
        stay: Pixels (H, W) that stay; one at least.
        noise: Added to what is filled in; (C, H, W).
    """
    from scipy.sparse.linalg import splu

    matrix, known = system(x, stay)
    # Diagonally dominant: no pivoting is needed, and the symmetric order leaves far fewer new entries.
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    filled = x.copy()
    filled[:, ~stay] = factors.solve(known).T
    if noise is not None:
        filled[:, ~stay] += noise[:, ~stay]
    return filled


def system(x: Float32Array, stay: BoolArray) -> tuple[Array, Array]:
    """Return the sparse matrix (n, n) and the right-hand sides (n, 3) of the n missing pixels."""
    from scipy.sparse import coo_array, csc_array

    missing = np.pad(~stay, 1)
    count = int(missing.sum())
    number = np.full(missing.shape, -1)
    number[missing] = np.arange(count)
    inside = np.pad(np.ones(stay.shape, bool), 1)
    values = np.pad(x * stay, ((0, 0), (1, 1), (1, 1))).astype(np.float64)
    y, z = np.nonzero(missing)
    total, known = np.zeros(count), np.zeros((count, len(x)))
    rows, columns, entries = [], [], []
    for (down, right), weight in NEIGHBOURS.items():
        there = y + down, z + right
        total += weight * inside[there]
        known += weight * values[:, *there].T
        unknown = np.flatnonzero(number[there] >= 0)
        rows.append(unknown)
        columns.append(number[there][unknown])
        entries.append(np.full(len(unknown), -weight))
    places = np.concatenate([*rows, np.arange(count)]), np.concatenate([*columns, np.arange(count)])
    return csc_array(coo_array((np.concatenate([*entries, total]), places), shape=(count, count))), known
