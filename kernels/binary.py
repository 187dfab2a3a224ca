"""The machine code of the kernels: packaged, else cached, else compiled here and now."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from fusioncam.errors import DeviceError, first_line

FOLDER = Path(__file__).parent
SOURCES = FOLDER / "cuda"
MAIN = "fusioncam.cu"
OPTIONS = ("-std=c++17",)  # as in CMakeLists.txt
PACKAGED_FROM = (7, 5)  # the lowest capability that CMakeLists.txt compiles for
ELF = b"\x7fELF"

INSTALL = 'install the CUDA toolkit (nvcc), or pip install "fusioncam[gpu]" (NVRTC)'


class CompilerError(Exception):
    """A compiler is missing or refuses the kernels."""


def load_binary(capability: tuple[int, int]) -> bytes:
    """What a driver loads to run the kernels: a fatbin for many GPUs, or a cubin for one kind.

    Args:
        capability: Compute capability of the GPU, such as (9, 0).

    Raises:
        DeviceError: There is none for this GPU, and no compiler that makes one.
    """
    digest = source_digest()
    packaged = FOLDER / f"fusioncam-{digest[:16]}.fatbin"
    if capability >= PACKAGED_FROM and packaged.is_file():
        return packaged.read_bytes()
    architecture = "sm_{}{}".format(*capability)
    cached = cache_folder() / f"{digest[:16]}-{architecture}.cubin"
    with suppress(OSError):
        binary = cached.read_bytes()
        if binary.startswith(ELF):  # not cut off when the power went
            return binary
    binary = compile_kernels(architecture)
    with suppress(OSError):  # a cache that cannot be written to
        _write(cached, binary)
    return binary


def source_digest() -> str:
    """The SHA-256 that says which sources a binary is of; CMakeLists.txt works it out in the same way."""
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in (".cu", ".cuh"))
    lines = (f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def cache_folder() -> Path:
    """The folder for compiled kernels; it need not exist."""
    return Path(os.environ.get("FUSIONCAM_CACHE") or user_cache_path("fusioncam")) / "kernels"


def compile_kernels(architecture: str) -> bytes:
    """A cubin for one architecture, such as sm_90, by the first compiler that makes it.

    Raises:
        DeviceError: None does; the message holds the first error of each.
    """
    refusals = []
    compilers: tuple[Callable[[str], bytes], ...] = (with_nvcc, with_nvrtc)
    for compiler in compilers:
        try:
            return compiler(architecture)
        except CompilerError as error:
            refusals.append(str(error))
    raise DeviceError(f"the kernels cannot be compiled for {architecture}: {'; '.join(refusals)}; {INSTALL}")


def with_nvcc(architecture: str) -> bytes:
    """A cubin by nvcc from PATH, else from CUDA_HOME or CUDA_PATH.

    Raises:
        CompilerError: There is no nvcc, or it fails.
    """
    homes = (os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH"))
    places = [os.environ.get("PATH", os.defpath), *(str(Path(home) / "bin") for home in homes if home)]
    nvcc = shutil.which("nvcc", path=os.pathsep.join(places))
    if nvcc is None:
        raise CompilerError("there is no nvcc")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernels.cubin"
        command = [nvcc, "-cubin", f"-arch={architecture}", *OPTIONS, "-o", str(target), str(SOURCES / MAIN)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise CompilerError(f"nvcc does not run: {first_line(error)}") from error
        if done.returncode != 0 or not target.is_file():
            raise CompilerError(f"nvcc: {first_error(done.stderr + done.stdout)}")
        return target.read_bytes()


def with_nvrtc(architecture: str) -> bytes:
    """A cubin by NVRTC, which needs no compiler for the host.

    Raises:
        CompilerError: cuda-bindings or NVRTC is missing, or fails.
    """
    try:
        from cuda.bindings import nvrtc

        status, program = nvrtc.nvrtcCreateProgram((SOURCES / MAIN).read_bytes(), MAIN.encode(), 0, [], [])
    except (ImportError, RuntimeError) as error:
        raise CompilerError(f"there is no NVRTC ({first_line(error)})") from error
    if status:
        raise CompilerError(f"NVRTC: {status.name}")
    options = [*OPTIONS, f"-arch={architecture}", f"-I{SOURCES}"]
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        if status:
            log = _nvrtc_text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            raise CompilerError(f"NVRTC: {first_error(log.decode(errors='replace')) or status.name}")
        return _nvrtc_text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _nvrtc_text(size: Any, read: Any, program: Any) -> bytes:
    text = bytes(size(program)[1])
    read(program, text)
    return text


def first_error(log: str) -> str:
    """The first line of a compiler's log that names an error, else its first line."""
    lines = [line.strip("\0 \t") for line in log.splitlines() if line.strip("\0 \t")]
    return next((line for line in lines if "error" in line.lower() or "fatal" in line.lower()), (lines or [""])[0])


def _write(path: Path, content: bytes) -> None:
    """Write a file that is never seen half done, whoever else writes it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
