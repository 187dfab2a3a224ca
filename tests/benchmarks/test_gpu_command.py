"""`benchmarks/gpu.py` where something is missing."""

import sys
from importlib.metadata import PackageNotFoundError, distributions, version

from fusioncam.kernels.device import LAUNCHERS


def test_without_a_gpu_there_is_one_line_and_nothing_else(command, monkeypatch, capsys, tmp_path):
    for name in LAUNCHERS:
        monkeypatch.setitem(LAUNCHERS, name, "no_such_package")
    assert command.main(["-o", str(tmp_path / "r.json")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("there is no GPU to measure: ")
    assert "No module named 'no_such_package'" in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_dependency_is_one_line(command, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "gpu.machine", None)
    assert command.main(["-o", str(tmp_path / "r.json")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("nothing can be measured: ")
    assert len(err.splitlines()) == 1


def test_a_checkout_that_is_not_installed_knows_its_version(command, monkeypatch, tmp_path):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(command, "version", missing)
    command.find_package(tmp_path / "told")
    assert sys.path[-1] == str(tmp_path / "told")
    (found,) = distributions(path=[str(tmp_path / "told")])
    assert (found.metadata["Name"], found.version) == ("fusioncam", version("fusioncam"))
