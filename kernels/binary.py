"""The machine code of the kernels: packaged, else cached, else compiled on this machine."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fusioncam.errors import DeviceError, first_line
from fusioncam.files import cache_root, replace_file, temporary_folder

FOLDER = Path(__file__).parent
SOURCES = FOLDER / "cuda"
MAIN = "fusioncam.cu"
OPTIONS = ("-std=c++17",)  # as in CMakeLists.txt
LOWEST = (7, 5)  # the capability that CMakeLists.txt compiles for, and up; newer compilers know none below
ELF = b"\x7fELF"
TIMEOUT = 120  # seconds for nvcc, which takes far fewer
_SEAL = hashlib.sha256().digest_size

INSTALL = 'install the CUDA toolkit (nvcc), or pip install "fusioncam[gpu]" (NVRTC)'
TOO_OLD = "they need a GPU of compute capability {}.{} or later: choose another, or run on the CPU".format(*LOWEST)

# What a driver says of a binary that holds nothing for this GPU, or PTX newer than the driver.
UNUSABLE = re.compile("ptx|unsupported.toolchain|no.kernel.image|no.binary", re.IGNORECASE)

Loaded = TypeVar("Loaded")
Compiler = Callable[[str], bytes]


class CompilerError(Exception):
    """A compiler is missing or refuses the kernels."""


def load_kernels(capability: tuple[int, int], load: Callable[[bytes], Loaded]) -> Loaded:
    """Return what a driver makes of the packaged kernels, or of kernels compiled here where it has no use for those.

    A GPU that is newer than the package has only its PTX, which a driver refuses that is older than the compiler of it.

    Args:
        capability: Compute capability of the GPU, such as (9, 0).
        load: Loads a binary; raises the driver's error.

    Raises:
        DeviceError: There are none for this GPU, and no compiler makes them.
        Exception: The driver's error.
    """
    packaged = FOLDER / f"fusioncam-{source_digest()[:16]}.fatbin"
    if capability < LOWEST or not packaged.is_file():
        return load(compiled_binary(capability))
    try:
        return load(packaged.read_bytes())
    except Exception as error:  # the launchers' exceptions share no base class
        if not UNUSABLE.search(str(error)):
            raise
        with suppress(DeviceError):  # no compiler: then the driver's error says what to do
            return load(compiled_binary(capability))
        raise


def compiled_binary(capability: tuple[int, int]) -> bytes:
    """Return the kernels for one kind of GPU as a driver loads them, compiled now or once before.

    Args:
        capability: Compute capability of the GPU, such as (9, 0).

    Raises:
        DeviceError: No compiler makes them.
    """
    digest = source_digest()
    architecture = "sm_{}{}".format(*capability)
    cached = cache_folder() / f"{digest[:16]}-{architecture}.cubin"
    with suppress(OSError):
        content = cached.read_bytes()
        binary = content[:-_SEAL]
        if content == sealed(binary):  # neither cut off when the power went, nor changed
            return binary
    binary = compile_kernels(architecture)
    with suppress(OSError):  # a cache that cannot be written to
        cached.parent.mkdir(parents=True, exist_ok=True)
        replace_file(cached, sealed(binary))
    return binary


def sealed(binary: bytes) -> bytes:
    """Return the content of a file of the cache: the binary, followed by its SHA-256."""
    return binary + hashlib.sha256(binary).digest()


def source_digest() -> str:
    """Return the SHA-256 that names the sources of a binary; CMakeLists.txt computes it in the same way."""
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in (".cu", ".cuh"))
    lines = (f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def cache_folder() -> Path:
    """Return the folder for compiled kernels, which need not exist."""
    folder = cache_root()
    with suppress(RuntimeError):  # a user that there is not
        folder = folder.expanduser()
    return folder / "kernels"


def compile_kernels(architecture: str) -> bytes:
    """Return a cubin for one architecture, such as sm_90, by the first compiler that makes it.

    Raises:
        DeviceError: None does; the message holds the first error of each.
    """
    try:
        return by_the_first((with_nvcc, with_nvrtc), architecture)
    except CompilerError as error:
        number = int(architecture.removeprefix("sm_"))
        remedy = TOO_OLD if divmod(number, 10) < LOWEST else INSTALL
        raise DeviceError(f"the kernels cannot be compiled for {architecture}: {error}; {remedy}") from error


def by_the_first(compilers: Iterable[Compiler], architecture: str) -> bytes:
    """Return a cubin by the first compiler that makes it.

    Raises:
        CompilerError: None does; the message holds the first error of each.
    """
    refusals = []
    for compiler in compilers:
        try:
            return compiler(architecture)
        except CompilerError as error:
            refusals.append(str(error))
    raise CompilerError("; ".join(dict.fromkeys(refusals)))


def with_nvcc(architecture: str) -> bytes:
    """Return a cubin by the first nvcc on PATH, in CUDA_HOME or in CUDA_PATH that makes it.

    Raises:
        CompilerError: There is no nvcc, or all fail.
    """
    homes = (os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH"))
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep) + [str(Path(home) / "bin") for home in homes if home]
    paths = [path for path in (shutil.which("nvcc", path=folder) for folder in folders) if path]
    if not paths:
        raise CompilerError("there is no nvcc")
    return by_the_first([partial(run_nvcc, path) for path in dict.fromkeys(paths)], architecture)


def run_nvcc(nvcc: str, architecture: str) -> bytes:
    """Return a cubin by one nvcc.

    Raises:
        CompilerError: It fails, makes something else, or does not end.
    """
    try:
        with temporary_folder() as folder:
            target = folder / "kernels.cubin"
            command = [nvcc, "-cubin", f"-arch={architecture}", *OPTIONS, "-o", str(target), str(SOURCES / MAIN)]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
                timeout=TIMEOUT,
            )  # fmt: skip
            made = target.read_bytes() if target.is_file() else b""
    except subprocess.TimeoutExpired as error:
        raise CompilerError(f"nvcc is not done after {TIMEOUT} s") from error
    except OSError as error:
        raise CompilerError(f"nvcc does not run: {first_line(error)}") from error
    if done.returncode or not made.startswith(ELF):
        silent = f"it makes no cubin, and ends with status {done.returncode}"
        raise CompilerError(f"nvcc: {first_error(done.stderr + done.stdout) or silent}")
    return made


def with_nvrtc(architecture: str) -> bytes:
    """Return a cubin by NVRTC, which needs no compiler for the host.

    Raises:
        CompilerError: cuda-bindings or NVRTC is missing, or fails.
    """
    try:
        from cuda.bindings import nvrtc

        status, program = nvrtc.nvrtcCreateProgram((SOURCES / MAIN).read_bytes(), MAIN.encode(), 0, [], [])
    except (Exception, SystemExit) as error:  # a broken installation may do anything
        raise CompilerError(f"there is no NVRTC ({first_line(error)})") from error
    if status:
        raise CompilerError(f"NVRTC: {status.name}")
    options = [*OPTIONS, f"-arch={architecture}", f"-I{SOURCES}"]
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
        if status:
            log = _nvrtc_text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            raise CompilerError(f"NVRTC: {first_error(log.decode(errors='replace')) or status.name}")
        made = _nvrtc_text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
        if not made.startswith(ELF):
            raise CompilerError("NVRTC: it makes no cubin")
        return made
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _nvrtc_text(size: Any, read: Any, program: Any) -> bytes:
    text = bytes(size(program)[1])
    read(program, text)
    return text


def first_error(log: str) -> str:
    """Return the first line of a compiler's log that names an error, else its first line."""
    lines = [line.strip("\0 \t") for line in log.splitlines() if line.strip("\0 \t")]
    return next((line for line in lines if "error" in line.lower() or "fatal" in line.lower()), (lines or [""])[0])
