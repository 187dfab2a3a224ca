"""The machine code that is loaded: packaged, cached or compiled."""

from pathlib import Path

import pytest

from fusioncam.kernels import binary

CUBIN = binary.ELF + b" of no GPU"
pytestmark = pytest.mark.usefixtures("bare")


@pytest.fixture
def compiled(monkeypatch):
    """The architectures that were compiled for; no compiler runs."""
    asked = []
    monkeypatch.setattr(binary, "compile_kernels", lambda architecture: asked.append(architecture) or CUBIN)
    return asked


def test_the_packaged_binary_is_used_for_the_sources_it_is_of(compiled, edit):
    packaged = binary.FOLDER / f"fusioncam-{binary.source_digest()[:16]}.fatbin"
    packaged.write_bytes(b"fatbin")
    assert binary.load_kernels((7, 5), bytes) == binary.load_kernels((12, 1), bytes) == b"fatbin"
    assert not compiled
    edit("arithmetic.cuh", "// changed")
    assert binary.load_kernels((7, 5), bytes) == CUBIN


def test_the_packaged_binary_is_not_used_below_what_it_is_for(compiled):
    (binary.FOLDER / f"fusioncam-{binary.source_digest()[:16]}.fatbin").write_bytes(b"fatbin")
    assert binary.load_kernels((7, 0), bytes) == CUBIN
    assert compiled == ["sm_70"]


@pytest.mark.parametrize(("said", "used"), [("CUDA_ERROR_NO_BINARY_FOR_GPU: ...", True), ("out of memory", False)])
def test_only_a_binary_without_use_is_compiled_here(compiled, said, used):
    (binary.FOLDER / f"fusioncam-{binary.source_digest()[:16]}.fatbin").write_bytes(b"fatbin")

    def load(content):
        if content == b"fatbin":
            raise RuntimeError(said)
        return content

    if used:
        assert binary.load_kernels((13, 0), load) == CUBIN
    else:
        with pytest.raises(RuntimeError, match=said):
            binary.load_kernels((13, 0), load)
    assert compiled == ["sm_130"] * used


def test_the_digest_is_of_the_names_and_the_contents_of_all_sources(edit):
    digests = [binary.source_digest()]
    edit("block.cuh", "\n")
    digests.append(binary.source_digest())
    edit("new.cu", "")
    digests.append(binary.source_digest())
    (binary.SOURCES / "new.cu").rename(binary.SOURCES / "newer.cu")
    digests.append(binary.source_digest())
    assert len(set(digests)) == 4
    edit("notes.txt", "no source")
    assert binary.source_digest() == digests[-1]


def test_what_was_compiled_is_kept_by_sources_and_architecture(compiled, edit):
    for _ in range(2):
        assert binary.load_kernels((8, 6), bytes) == binary.load_kernels((12, 0), bytes) == CUBIN
    assert compiled == ["sm_86", "sm_120"]
    edit("masks.cu", "// changed")
    binary.load_kernels((8, 6), bytes)
    assert compiled == ["sm_86", "sm_120", "sm_86"]
    assert len(list(binary.cache_folder().iterdir())) == 3


def test_a_damaged_file_in_the_cache_is_replaced(compiled):
    binary.load_kernels((8, 6), bytes)
    (cached,) = binary.cache_folder().iterdir()
    whole = cached.read_bytes()
    flipped = whole[:6] + bytes([whole[6] ^ 1]) + whole[7:]
    for count, damaged in enumerate((b"", whole[:-1], whole[: len(CUBIN)], CUBIN[:10], flipped, whole + b"x"), start=2):
        cached.write_bytes(damaged)
        assert binary.load_kernels((8, 6), bytes) == binary.load_kernels((8, 6), bytes) == CUBIN
        assert cached.read_bytes() == whole
        assert len(compiled) == count


def test_a_cache_that_cannot_be_written_does_not_matter(compiled, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path / "file"))
    assert binary.load_kernels((8, 6), bytes) == CUBIN


def test_a_file_that_cannot_be_put_in_place_leaves_nothing(compiled):
    (binary.cache_folder() / f"{binary.source_digest()[:16]}-sm_86.cubin").mkdir(parents=True)
    assert binary.load_kernels((8, 6), bytes) == CUBIN
    (left,) = binary.cache_folder().iterdir()
    assert left.is_dir()


def test_an_interrupted_write_leaves_nothing(compiled, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        binary.load_kernels((8, 6), bytes)
    assert not list(binary.cache_folder().iterdir())


def test_the_cache_may_be_named_by_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FUSIONCAM_CACHE", "~/mine")
    assert binary.cache_folder() == tmp_path / "mine" / "kernels"
    monkeypatch.setenv("FUSIONCAM_CACHE", "~nobody-of-that-name/mine")
    assert binary.cache_folder() == Path("~nobody-of-that-name/mine/kernels")


def test_the_cache_is_the_users_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv("FUSIONCAM_CACHE")
    assert binary.cache_folder().parts[-2:] == ("fusioncam", "kernels")
    assert Path.home() in binary.cache_folder().parents
