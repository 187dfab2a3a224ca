"""Repositories are added to, whole or not at all."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fusioncam.errors import OutputError, UsageError
from fusioncam.export.triton import repository as module


def test_forms_have_these_files(write, repo):
    written = write(repo)
    assert (written.models, written.version, written.edited) == (("tiny",), 1, ())
    assert {str(p.relative_to(repo)) for p in repo.rglob("*") if p.is_file()} == {
        "tiny/config.pbtxt",
        "tiny/labels.txt",
        "tiny/1/model.onnx",
    }
    assert write(repo, form="bls", name="other").models == ("other_explain", "other_score", "other")
    assert {str(p.relative_to(repo)) for p in repo.glob("other/**/*") if p.is_file()} == {
        "other/config.pbtxt",
        "other/labels.txt",
        "other/1/model.py",
        "other/1/manifest.json",
    }
    assert write(repo, form="both", name="third").models == (
        "third_explain",
        "third_score",
        "third",
        "third_single",
    )


def test_versions_are_counted_up(write, repo, files):
    write(repo, form="both")
    first = files(repo)
    assert write(repo, form="both").version == 2
    assert write(repo, form="both", version=7).version == 7
    assert write(repo, form="both").version == 8
    now = files(repo)
    assert {k: now[k] for k in first} == first
    assert {p.name for p in (repo / "tiny_score").iterdir()} == {"1", "2", "7", "8", "config.pbtxt"}


def test_versions_of_parts_keep_step(write, repo):
    write(repo, form="bls", version=3)
    shutil.rmtree(repo / "tiny" / "3")
    assert write(repo, form="bls").version == 4
    with pytest.raises(UsageError, match=r"tiny_.*3 exists already; give another --version"):
        write(repo, form="bls", version=3)


def test_a_new_version_brings_its_configuration(write, repo):
    write(repo, form="bls", instances=2)
    assert write(repo, form="bls", instances=5).edited == ()
    assert "count: 5" in (repo / "tiny" / "config.pbtxt").read_text()


def test_an_edited_configuration_is_kept(write, repo):
    write(repo, form="bls")
    config = repo / "tiny" / "config.pbtxt"
    edited = config.read_text().replace("count: 1", "count: 9")
    config.write_text(edited)
    assert write(repo, form="bls", instances=5).edited == ("tiny",)
    assert config.read_text() == edited


@pytest.mark.parametrize("version", [0, -1, 1 << 40])
def test_versions_are_numbers_from_one_on(write, repo, version):
    with pytest.raises(UsageError, match="a version is a whole number from 1 on"):
        write(repo, version=version)
    assert not repo.parent.exists()


def test_other_models_are_not_touched(write, repo, files):
    other = repo / "resnet"
    (other / "1").mkdir(parents=True)
    (other / "1" / "model.plan").write_bytes(b"plan")
    (other / "config.pbtxt").write_text('name: "resnet"')
    before = files(other)
    write(repo, form="both")
    assert files(other) == before


FOREIGN = {
    "folder": lambda p: p.mkdir(),
    "other model": lambda p: (p.mkdir(), (p / "config.pbtxt").write_text('name: "tiny_score"\n')),
    "file": lambda p: p.write_text("x"),
    "link to nothing": lambda p: p.symlink_to("nowhere"),
    "link to a file": lambda p: (p.with_name("f").write_text("x"), p.symlink_to("f")),
    "binary": lambda p: (p.mkdir(), (p / "config.pbtxt").write_bytes(b"\xff\xfe")),
    "folder by the name of the file": lambda p: (p / "config.pbtxt").mkdir(parents=True),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_not_ours_is_refused(write, repo, files, what):
    repo.mkdir(parents=True)
    FOREIGN[what](repo / "tiny_score")
    before = files(repo)
    with pytest.raises(
        OutputError, match=r"tiny_score exists already and was not written by `fusioncam triton`; choose"
    ):
        write(repo, form="bls")
    assert files(repo) == before


def test_a_model_of_another_form_is_refused(write, repo, files):
    write(repo)
    before = files(repo)
    with pytest.raises(OutputError, match="tiny holds a single graph, not a BLS model; choose another --name"):
        write(repo, form="bls")
    assert files(repo) == before


def test_another_interface_is_refused(write, repo, make_tiny, files):
    write(repo, form="bls")
    before = files(repo)
    other = make_tiny(classes=4).bundle
    with pytest.raises(OutputError, match="tiny_explain has other inputs, outputs or labels, but all versions"):
        write(repo, other, form="bls", name="tiny")
    assert files(repo) == before


def test_places_that_are_none(write, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "round").symlink_to("round")
    for place in (tmp_path / "file", tmp_path / "file" / "inner", tmp_path / "round", tmp_path / ("x" * 300), "a\0b"):
        with pytest.raises(OutputError, match=r"give another --repo"):
            write(Path(place))
    assert {p.name for p in tmp_path.iterdir()} == {"file", "round"}


def test_a_repository_that_may_not_be_written(write, repo, monkeypatch):
    repo.mkdir(parents=True)

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)  # the tests may run as root, who may write anywhere
    with pytest.raises(OutputError, match=r"cannot write to .*repo \(Permission denied\); give another --repo"):
        write(repo)
    assert not list(repo.iterdir())


def test_a_bundle_is_no_repository(write, bundle, tmp_path, files):
    (tmp_path / "link").symlink_to(bundle)
    before = files(bundle)
    for place in (bundle, bundle / "models", tmp_path / "link"):
        with pytest.raises(OutputError, match=r"lies in the bundle; give another --repo"):
            write(place)
    assert files(bundle) == before


def test_a_linked_repository_is_followed(write, repo, tmp_path):
    repo.mkdir(parents=True)
    (tmp_path / "link").symlink_to(repo)
    write(tmp_path / "link")
    assert (repo / "tiny" / "1" / "model.onnx").is_file()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize(("versions", "steps"), [(0, 3 + 3), (1, 3 + 3 * 2)])
def test_whatever_goes_wrong_leaves_what_was_there(write, repo, files, monkeypatch, versions, steps, error):
    """Every step fails once: writing each of three models, moving it, and, where it is known, its configuration."""
    for _ in range(versions):
        write(repo, form="bls", instances=2)
    before = files(repo)
    for step in range(steps):
        left = iter(range(step, -1, -1))

        def failing(real, left=left):
            def act(*arguments):
                if next(left, None) == 0:
                    raise error
                return real(*arguments)

            return act

        with monkeypatch.context() as patch:
            for owner, name in ((module, "replace_file"), (module, "_write"), (Path, "rename")):
                patch.setattr(owner, name, failing(getattr(owner, name)))
            with pytest.raises((OutputError, KeyboardInterrupt)):
                write(repo, form="bls")
        assert files(repo) == before
        assert repo.parent.exists() == bool(versions)
    assert write(repo, form="bls").version == versions + 1


def test_two_at_a_time_do_not_mix(write, repo, monkeypatch):
    """Whoever comes second finds the version taken, even where it began before the first was done."""
    real = module._write

    def slow(*arguments):
        real(*arguments)
        monkeypatch.setattr(module, "_write", real)
        write(repo)

    monkeypatch.setattr(module, "_write", slow)
    with pytest.raises(UsageError, match=r"tiny.1 exists already; give another --version"):
        write(repo)
    assert {p.name for p in repo.iterdir()} == {"tiny"}
    assert {p.name for p in (repo / "tiny").iterdir()} == {"1", "config.pbtxt", "labels.txt"}


@pytest.mark.parametrize("mounted", [False, True])
def test_a_server_that_polls_sees_no_model_half_done(write, repo, monkeypatch, mounted):
    """Unless nothing can be written beside the repository, because it is a file system of its own, for instance."""
    seen = []
    real = module._write
    monkeypatch.setattr(module, "_write", lambda *a: (real(*a), seen.append({p.name[:5] for p in repo.iterdir()})))
    if mounted:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    write(repo, form="bls")
    assert seen == [{".fcam"} if mounted else set()] * 3
    assert {p.name for p in repo.iterdir()} == {"tiny_explain", "tiny_score", "tiny"}
    assert {p.name for p in repo.parent.iterdir()} == {"repo"}


SCRIPT = """
import sys, time
from pathlib import Path
from fusioncam.export.triton import repository, write_repository
real = repository._write
repository._write = lambda *arguments: (real(*arguments), print("begun", flush=True), time.sleep(60))
write_repository(Path(sys.argv[1]), Path(sys.argv[2]), ("score_cam",), form="bls")
"""


def test_an_interrupt_leaves_nothing(bundle, repo):
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, bundle, repo], stdout=-1, stderr=-3, text=True)
    assert child.stdout.readline() == "begun\n"
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert not repo.parent.exists()
