"""The graph that masks its pictures itself, against pictures masked here, and the chunks it is fed with."""

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fusioncam import Explainer
from fusioncam.errors import BundleError
from fusioncam.export import export_model
from fusioncam.kernels.masks import Deferred, MaskMaker, interpolation_matrix, write
from fusioncam.kernels.reference import unit, upsample
from fusioncam.runtime.engine.host.chunks import MaskChunk, PictureChunk
from fusioncam.runtime.sessions.masked_graph import MASKS, PICTURE, masked_graph
from fusioncam.runtime.sessions.open import open_session

SIZE, GRID = (24, 32), (6, 8)


@pytest.mark.parametrize(("h", "w", "height", "width"), [(6, 8, 24, 32), (1, 1, 5, 3), (7, 3, 7, 40), (9, 4, 5, 2)])
def test_the_matrices_are_the_upsampling(h, w, height, width):
    maps = np.random.default_rng(0).standard_normal((3, h, w))
    found = interpolation_matrix(h, height) @ maps @ interpolation_matrix(w, width).T
    np.testing.assert_allclose(found, upsample(maps, (height, width)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("small", "large"), [(7, 224), (5, 160), (14, 224), (3, 96), (12, 384), (1, 9)])
def test_up_of_one_is_one(small, large):
    sums = interpolation_matrix(small, large).astype(np.float32).sum(1, dtype=np.float32)
    np.testing.assert_allclose(sums, 1, rtol=0, atol=1.2e-7)


@pytest.fixture(scope="module")
def sessions(tiny):
    path = tiny.bundle / "score.onnx"
    return open_session(path), open_session(path, model=masked_graph(path, [GRID], (3, *SIZE)))


def both(sessions, count, fill):
    """Logits by the graph of the bundle and by the one that masks; `fill(out)` gets an array or `Deferred`."""
    rows = []
    for session, chunk in zip(sessions, (PictureChunk((3, *SIZE), np.float32), MaskChunk([GRID])), strict=True):
        out = chunk.rows(count)
        fill(out)
        rows.append(session.run(["logits"], chunk.feeds(out, count))[0])
    return rows


def save_pictures(path, size):
    """Save a graph whose logits are its pictures."""
    ends = [("image", ["N", 3, *size]), ("logits", ["N", 3 * math.prod(size)])]
    image, logits = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
    graph = helper.make_graph([helper.make_node("Flatten", ["image"], ["logits"])], "pictures", [image], [logits])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.mark.parametrize("grids", [((6, 8), (3, 4), (1, 2), (3, 4)), ((5,), (9,)), ((3, 4, 5), (2, 2, 2))])
def test_masks_of_several_grids_share_a_chunk(tmp_path, grids):
    size = {1: (40,), 2: (24, 32), 3: (8, 9, 22)}[len(grids[0])]
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, *size)).astype(np.float32)
    chunk, count = MaskChunk(grids), 2 * len(grids) + 1
    path = save_pictures(tmp_path / "score.onnx", size)
    session = open_session(path, model=masked_graph(path, grids, (3, *size)))
    for order in (grids, grids[::-1]):  # what an earlier chunk left does not show
        rows, wanted = chunk.rows(count), []
        for n, grid in enumerate(order):
            maps = rng.standard_normal((2, *grid)).astype(np.float32)
            MaskMaker(maps, x).fill(np.arange(2), rows[2 * n : 2 * n + 2])
            wanted += list(unit(upsample(maps.astype(np.float64), size), len(size)))
        write([x], rows[count - 1 :])
        found = session.run(["logits"], chunk.feeds(rows, count))[0].reshape(count, 3, *size)
        np.testing.assert_allclose(found, np.stack([*wanted, np.ones(size)])[:, None] * x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("grid", "size"),
    [((6, 8), (24, 32)), ((7, 7), (224, 224)), ((3, 5), (96, 50)), ((1, 9), (8, 40)), ((9,), (50,)),
     ((3, 4, 5), (8, 9, 22)), ((1, 4, 2), (1, 9, 22))],
)  # fmt: skip
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e4, -3e3), (1e-5, 0.0), (0.01, 100.0)])
def test_masked_pictures_are_within_a_millionth_of_float64(tmp_path, grid, size, scale, offset):
    """The logits of this graph are its masked pictures."""
    path = save_pictures(tmp_path / "score.onnx", size)
    rng = np.random.default_rng(0)
    maps = (rng.standard_normal((4, *grid)) * scale + offset).astype(np.float32)
    x = rng.standard_normal((3, *size)).astype(np.float32)
    maker, whole = MaskMaker(maps, x), rng.random(size)
    chunk = MaskChunk([grid])
    rows = chunk.rows(5)
    maker.fill(np.arange(4), rows[:4])
    write([x * whole.astype(np.float32)], rows[4:])
    session = open_session(path, model=masked_graph(path, [grid], (3, *size)))
    found = session.run(["logits"], chunk.feeds(rows, 5))[0].reshape(5, 3, *size)
    wanted = np.stack([*unit(upsample(maps.astype(np.float64), size), len(size)), whole])[:, None] * x
    assert (np.abs(found - wanted) <= 1e-6 * 2 * np.abs(x)).all()


@pytest.mark.parametrize("scale", [1, 1e4, 1e-4])
def test_channels_of_one_picture(sessions, pictures, scale):
    maps = (np.random.default_rng(0).standard_normal((9, *GRID)) * scale).astype(np.float32)
    maker = MaskMaker(maps, pictures[0])
    here, there = both(sessions, 5, lambda out: maker.fill(np.array([3, 0, 8, 8, 1]), out))
    assert len(here) == 5
    np.testing.assert_allclose(there, here, rtol=0, atol=2e-5)


def test_channels_of_several_pictures_and_full_size_maps_share_a_chunk(sessions, pictures):
    rng = np.random.default_rng(0)
    makers = [MaskMaker(rng.random((4, *GRID)).astype(np.float32), x) for x in pictures]
    whole = [rng.random(SIZE), np.zeros(SIZE), np.ones(SIZE)]

    def fill(out):
        makers[0].fill(np.array([0, 1]), out[:2])
        write((pictures[0] * m.astype(np.float32) for m in whole), out[2:5])
        makers[1].fill(np.array([2]), out[5:6])
        write([pictures[2] * whole[0].astype(np.float32)], out[6:])

    here, there = both(sessions, 7, fill)
    assert len(np.unique(here[:, 0])) == 7
    np.testing.assert_allclose(there, here, rtol=0, atol=2e-5)


def test_one_picture_is_handed_over_once_and_uncopied(pictures):
    chunk, x = MaskChunk([GRID]), pictures[0]
    rows = chunk.rows(4)
    rows[:3].put([x] * 3, np.zeros((3, *GRID), np.float32))
    feeds = chunk.feeds(rows, 3)
    assert feeds[PICTURE].shape == (1, 3, *SIZE)
    assert np.shares_memory(feeds[PICTURE], x)
    assert np.shares_memory(feeds[MASKS], chunk.rows(2).masks)
    assert len(feeds[MASKS]) == 4


@pytest.mark.parametrize("used", [2, 3])
def test_rows_that_are_not_used_hold_some_picture(pictures, used):
    chunk = MaskChunk([GRID])
    rows = chunk.rows(5)
    rows[:used].put([pictures[i % 2] for i in range(used)], 1)
    feeds = chunk.feeds(rows, used)
    assert feeds[PICTURE].shape == (5, 3, *SIZE)
    np.testing.assert_array_equal(feeds[PICTURE][:2], pictures[:2])
    assert np.isfinite(feeds[PICTURE]).all()


def test_rows_are_views(pictures):
    rows = MaskChunk([GRID]).rows(4)
    part = rows[1:3]
    assert isinstance(part, Deferred)
    part.put([pictures[1], pictures[2]], np.full((2, *GRID), 7, np.float32))
    assert [p is None for p in rows.pictures] == [True, False, False, True]
    assert rows.masks[1:3].min() == 7 > rows.masks[3].max()


def test_a_buffer_grows_and_stays():
    for chunk in (MaskChunk([GRID]), PictureChunk((3, *SIZE), np.float32)):
        array = (lambda rows: rows.masks) if isinstance(chunk, MaskChunk) else (lambda rows: rows)
        small, large, again = (array(chunk.rows(n)) for n in (2, 5, 3))
        assert [len(a) for a in (small, large, again)] == [2, 5, 3]
        assert np.shares_memory(large, again)
        assert not np.shares_memory(small, large)


def test_the_bundle_stays_as_it_was_and_the_rest_of_the_graph_too(tiny):
    path = tiny.bundle / "score.onnx"
    before = path.read_bytes()
    made, plain = (
        onnx.load_from_string(masked_graph(path, [GRID], (3, *SIZE))),
        onnx.load(path, load_external_data=False),
    )
    assert path.read_bytes() == before
    assert list(made.graph.node)[3:] == list(plain.graph.node)
    assert list(made.graph.output) == list(plain.graph.output)
    assert [i.name for i in made.graph.input] == [PICTURE, MASKS]
    assert len(made.SerializeToString()) < len(before) + 4 * (24 * 6 + 32 * 8) + 1000  # without the weights


def test_a_float16_graph_is_left_as_it_is(tiny, relayed, tmp_path):
    export_model(tiny.bundle.with_suffix(".onnx"), tmp_path / "half.fcam", layer="layer", precision="fp16")
    names = [[i.name for i in relayed(b)[1].score.get_inputs()] for b in (tiny.bundle, tmp_path / "half.fcam")]
    assert names == [[PICTURE, MASKS], ["image"]]


@pytest.mark.parametrize("data", [b"no graph", b""])
def test_what_is_no_graph_is_refused(tmp_path, data):
    (tmp_path / "score.onnx").write_bytes(data)
    with pytest.raises(BundleError, match=r"^cannot load .*score\.onnx: .+; export the model again$"):
        masked_graph(tmp_path / "score.onnx", [GRID], (3, *SIZE))


def test_a_bundle_of_links_into_one_folder_opens(tiny, pictures, tmp_path):
    """As the caches of some hubs have it: names of their own, side by side."""
    blobs, bundle = tmp_path / "blobs", tmp_path / "linked.fcam"
    blobs.mkdir()
    bundle.mkdir()
    for number, file in enumerate(sorted(tiny.bundle.iterdir())):
        (blobs / f"blob{number}").write_bytes(file.read_bytes())
        (bundle / file.name).symlink_to(blobs / f"blob{number}")
    try:
        open_session(bundle / "explain.onnx")
    except BundleError:
        pytest.skip("onnxruntime itself does not follow these links")
    found, wanted = (Explainer(b).explain(pictures[0], 1).maps["fusion_cam"] for b in (bundle, tiny.bundle))
    np.testing.assert_array_equal(found, wanted)
