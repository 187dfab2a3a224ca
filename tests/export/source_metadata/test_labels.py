"""Names of the classes: the user's, or those of the source."""

import json

import pytest

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.source_metadata.labels import read_labels


def config(tmp_path, name="config.json", **content):
    (tmp_path / name).write_text(json.dumps(content))


def names_of(tmp_path, classes=3, metadata=None, given=None):
    return read_labels(metadata or {}, tmp_path, classes, given)


def test_labels_from_a_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xef\xbb\xbfcat\r\n dog \r\n\r\nsnake\r\n\r\n")
    assert names_of(tmp_path, 4, given=path) == ("cat", "dog", "", "snake")
    with pytest.raises(UsageError, match=r"holds 4 labels, one a line, but the model has 5 classes.*background"):
        names_of(tmp_path, 5, given=path)
    with pytest.raises(UsageError, match=r"4 labels.*7 classes$"):
        names_of(tmp_path, 7, given=path)
    path.write_text("sea\u2028lion\ncat\x0c\n", encoding="utf-8")
    assert names_of(tmp_path, 2, given=path) == ("sea\u2028lion", "cat"), "only a newline ends a line"


def test_labels_in_a_list(tmp_path):
    assert names_of(tmp_path, 2, given=["cat", "dog"]) == names_of(tmp_path, 2, given=("cat", "dog")) == ("cat", "dog")
    with pytest.raises(UsageError, match="2 labels were given, but the model has 4 classes"):
        names_of(tmp_path, 4, given=["cat", "dog"])
    for given in ([1, 2], 5, b"ab", [], ["\ud800", "b"]):
        with pytest.raises(UsageError, match="a list of names, or a text file"):
            names_of(tmp_path, 2, given=given)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_labels_file_that_cannot_be_read(content, tmp_path):
    path = tmp_path / "labels.txt"
    if content:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="labels file"):
        names_of(tmp_path, given=path)


def test_labels_file_that_is_not_there(tmp_path):
    path = tmp_path / "gone.txt"
    with pytest.raises(UsageError) as caught:
        names_of(tmp_path, given=path)
    assert str(caught.value).count(str(path)) == 1
    assert "Errno" not in str(caught.value)
    assert str(caught.value).endswith("give a text file with one class name a line")


def test_labels_of_yolo(tmp_path):
    assert names_of(tmp_path, metadata={"names": "{0: 'cat', 2: 'c', 1: 'dog'}"}) == ("cat", "dog", "c")
    assert names_of(tmp_path, metadata={"names": "['a', 'b', 'c']"}) == ("a", "b", "c")


def test_labels_of_hugging_face(tmp_path):
    config(tmp_path, "config.json", id2label={"10": "z", "0": "a", "2": "c"})
    assert names_of(tmp_path) == ("a", "c", "z")


def test_labels_of_timm(tmp_path):
    config(tmp_path, "config.json", architecture="resnet18", label_names=["cat", "dog", "owl"])
    assert names_of(tmp_path) == ("cat", "dog", "owl")


@pytest.mark.parametrize(
    "text",
    [
        *("{", "3", "{0: 'a'}", "{'a': 'b', 'c': 'd', 'e': 'f'}", "__import__('os')", "[1, 2"),
        *("{1e999: 'a', 1: 'b', 2: 'c'}", "{None: 'a', 1: 'b', 2: 'c'}", "[" * 9000, "['\\ud800', 'b', 'c']"),
    ],
)
def test_no_labels(text, tmp_path):
    assert names_of(tmp_path, metadata={"names": text}) is None


def test_broken_configuration(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="repair it"):
        names_of(tmp_path)
