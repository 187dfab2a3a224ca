"""Annotations of each kind for tests, and a way to read them."""

import json

import numpy as np
import pytest

from fusioncam.runtime.evaluation.annotations import read_annotations


class Samples:
    """Files of each kind about the same photo, and what tests compare with."""

    LABELS = ("background", "tabby, tabby cat", "zebra", "crane", "crane, lifting")
    SIZE = (100, 200)  # H, W

    @staticmethod
    def coco(**changes):
        return {
            "images": [{"id": 1, "file_name": "a.jpg", "height": 100, "width": 200}],
            "categories": [{"id": 7, "name": "Tabby"}, {"id": 8, "name": "unicorn"}, {"id": 9, "name": "zebra"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 20, 20, 40]},
                {
                    "id": 2,
                    "image_id": 1,
                    "category_id": 9,
                    "bbox": [0, 0, 1, 1],
                    "segmentation": [[100, 0, 110, 0, 110, 5, 100, 5]],
                },
            ],
            **changes,
        }

    @staticmethod
    def voc(*objects, filename="a.jpg", size=(200, 100), head=""):
        boxes = "".join(
            f"<object><name>{name}</name>"
            f"<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for name, (x0, y0, x1, y1) in objects
        )
        said = f"<filename>{filename}</filename>" if filename else ""
        sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
        return f"{head}<annotation>{said}{sides}{boxes}</annotation>"

    @staticmethod
    def box(x0, y0, x1, y1, size=SIZE):
        mask = np.zeros(size, bool)
        mask[y0:y1, x0:x1] = True
        return mask

    @staticmethod
    def said(annotations):
        return [f"{p.image}: {p.text}" for p in annotations.problems]


@pytest.fixture(scope="session")
def samples():
    return Samples


@pytest.fixture
def read(tmp_path):
    """Writes annotations and reads them for some photos."""

    def write_and_read(content, photos=("a.jpg",), name="annotations", **options):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
        return read_annotations(path, Samples.LABELS, len(Samples.LABELS), **options).matched_to(photos)

    return write_and_read
