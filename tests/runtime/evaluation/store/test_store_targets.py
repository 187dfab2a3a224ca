"""Rows of several targets of a photo."""

import numpy as np

from fusioncam.runtime.evaluation.store.store import Store

SETTINGS = {"model": "abc", "methods": ("grad_cam",)}


def of(target, **facts):
    return {"image": "a", "target": target, "targets": 2, "sha256": "1", **facts, "methods": {"grad_cam": {}}}


def test_a_photo_is_finished_with_the_rows_of_all_of_its_targets(tmp_path):
    with Store(tmp_path, SETTINGS) as store:
        store.add(of("road"))
        assert not store.complete("a")
        assert not store.finished("a")
    with Store(tmp_path, SETTINGS) as store:
        assert store.rows == [of("road")]
        store.add(of("road", seconds=2))
        assert not store.finished("a")
        store.add(of("sky"))
        assert store.finished("a", "1")
        assert not store.finished("a", "2")
        assert store.rows == [of("road", seconds=2), of("sky")]
        store.add(of("tree", sha256="2", targets=1))  # of the photo in its place
        assert store.rows == [of("tree", sha256="2", targets=1)]
        store.add({"image": "a", "error": "damaged"})
        assert store.complete("a")
        assert not store.finished("a")
    with Store(tmp_path, SETTINGS) as store:
        assert store.rows == [{"image": "a", "error": "damaged"}]


def test_pictures_of_several_targets_have_names_of_their_own(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    with Store(tmp_path, SETTINGS) as store:
        names = {store.save_picture("a", "grad_cam", pixels, target) for target in ("", "road", "sky")}
    assert len(names) == 3
