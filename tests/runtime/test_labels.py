"""The names of classes."""

from fusioncam.runtime.labels import classes_by_name, names_of


def test_what_a_class_may_be_called():
    assert names_of("Tabby, Tabby Cat") == {"tabby, tabby cat", "tabby", "tabby cat"}
    assert {"n01440764", "tench", "tinca tinca", "tench, tinca tinca"} < names_of("n01440764 tench, Tinca tinca")
    assert classes_by_name(["crane", "cat", "crane, lifting"])["crane"] == (0, 2)
    assert classes_by_name(None) == {}
