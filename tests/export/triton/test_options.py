"""What cannot be written at all: bundles, names and options that make no sense."""

import shutil

import pytest

from fusioncam.errors import BundleError, UsageError


def test_a_bundle_without_the_single_graph(write, repo, make_tiny):
    old = make_tiny().bundle
    for form in ("single", "both"):
        with pytest.raises(UsageError, match=r"holds no fusioncam\.onnx; export the model again with --single, or use"):
            write(repo, old, form=form)
    assert not repo.parent.exists()
    assert write(repo, old, form="bls").models[-1] == "tiny"


def test_a_damaged_bundle_is_refused(write, repo, bundle, tmp_path):
    copy = tmp_path / "copy.fcam"
    shutil.copytree(bundle, copy)
    (copy / "score.onnx").write_bytes((copy / "score.onnx").read_bytes()[:-9])
    with pytest.raises(BundleError, match=r"score\.onnx was changed since the export"):
        write(repo, copy, form="bls")
    with pytest.raises(BundleError, match="is no bundle"):
        write(repo, tmp_path / "absent")
    assert not repo.parent.exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/a", "a\\b", "a b", "-a", ".a", "a\n", "é", "a" * 101, "a\0", "a%2fb"]
)
def test_names_that_are_none(write, repo, name):
    with pytest.raises(UsageError, match="is no name for a model: use letters, digits"):
        write(repo, name=name)
    assert not repo.parent.exists()


def test_the_name_of_a_bundle_may_be_none(write, repo, bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "my model.fcam")
    with pytest.raises(UsageError, match=r"'my model' is no name for a model.*choose one with --name"):
        write(repo, tmp_path / "my model.fcam")
    assert write(repo, tmp_path / "my model.fcam", name="m").models == ("m",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "ensemble"}, "no form 'ensemble'; use single, bls, both"),
        ({"kind": "tpu"}, "no kind 'tpu'; use cpu, gpu"),
        ({"kind": "cpu", "tensorrt": True}, "TensorRT runs on GPUs; leave out --tensorrt, or use --kind gpu"),
        ({"instances": 0}, "instances must be a whole number, 1 to 1024"),
        ({"instances": 5000}, "instances must be a whole number, 1 to 1024"),
    ],
)
def test_options_that_make_no_sense(write, repo, options, message):
    with pytest.raises(UsageError, match=message):
        write(repo, **options)
    assert not repo.parent.exists()
