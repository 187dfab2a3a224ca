"""The library as others take it into their projects."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[3] / "runtime" / "cpp"


def test_headers_can_be_in_several_files_of_a_program(built):
    """Whatever they define is inline: what is not would clash when two files that include it are linked."""
    if shutil.which("nm") is None:
        pytest.skip("there is no nm")
    listed = subprocess.run(["nm", "-C", built.driver], capture_output=True, text=True, check=True).stdout
    ours = re.findall(r"^\S* *(\w) (?:guard variable for )?(fusioncam::.*)$", listed, re.MULTILINE)
    assert len(ours) > 50
    assert [name for kind, name in ours if kind in "TDBRC"] == []


def test_the_sample_is_short():
    assert len((LIBRARY / "sample" / "overlay.cpp").read_text().splitlines()) <= 60


def test_a_release_archive_is_fetched_from_its_address(built):
    cache = (built.sample.parent / "CMakeCache.txt").read_text()
    assert re.search(r"ONNXRUNTIME_INCLUDE:PATH=.*onnxruntime_release-src/include", cache)


@pytest.mark.parametrize("way", ["relative", "environment", "project"])
def test_a_folder_with_onnxruntime_is_found(onnxruntime_root, tmp_path, way):
    """Relative to where cmake is called, by the environment, or by a project that adds the library as a folder."""
    source, given, environment = LIBRARY, "-DONNXRUNTIME_URL=", dict(os.environ)
    if way == "relative":
        given = f"-DONNXRUNTIME_ROOT={onnxruntime_root.name}"
    elif way == "environment":
        environment["ONNXRUNTIME_ROOT"] = str(onnxruntime_root)
    else:
        source = tmp_path
        lines = (
            "cmake_minimum_required(VERSION 3.19)",
            "project(app LANGUAGES CXX)",
            f'set(ONNXRUNTIME_ROOT "{onnxruntime_root}")',
            f'add_subdirectory("{LIBRARY}" fusioncam)',
        )
        (source / "CMakeLists.txt").write_text("\n".join(lines))
    command = ["cmake", "-S", source, "-B", tmp_path / "build", given, "-DFUSIONCAM_OPENCV=OFF"]
    subprocess.run(command, cwd=onnxruntime_root.parent, env=environment, capture_output=True, check=True)
    cache = (tmp_path / "build" / "CMakeCache.txt").read_text()
    assert f"ONNXRUNTIME_LIBRARY:FILEPATH={onnxruntime_root}/lib/" in cache


def test_a_folder_without_onnxruntime_is_told(onnxruntime_root, tmp_path):
    command = ["cmake", "-S", LIBRARY, "-B", tmp_path / "build", f"-DONNXRUNTIME_ROOT={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "set ONNXRUNTIME_ROOT to" in " ".join(done.stderr.split())
