"""onnxruntime's C++ headers, which its Python package lacks: the system's, or those of a Debian package."""

import re
import shutil
import subprocess
from pathlib import Path

HEADER = "onnxruntime_cxx_api.h"
SYSTEM = (Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime"), Path("/usr/local/include"))
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITE, PACKAGE = "trixie", "libonnxruntime-dev"  # the first of Debian's releases that has it


class MissingHeadersError(Exception):
    """There are none, and none can be fetched; the text says why."""


def headers(cache):
    """The folder of the headers; fetched once into `cache`, a folder."""
    kept = cache / PACKAGE / "usr" / "include" / "onnxruntime"
    for folder in (*SYSTEM, kept):
        if (folder / HEADER).is_file():
            return folder
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None or not KEYRING.is_file():
        raise MissingHeadersError("onnxruntime's C++ headers are not here, and this is no Debian to fetch them from")
    cache.mkdir(parents=True, exist_ok=True)
    work = cache / f"{PACKAGE}.part"
    shutil.rmtree(work, ignore_errors=True)
    try:
        _fetch(work)
        shutil.rmtree(cache / PACKAGE, ignore_errors=True)
        (work / "unpacked").rename(cache / PACKAGE)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise MissingHeadersError(f"onnxruntime's C++ headers cannot be fetched: {said.strip()[-200:]}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return kept


def _fetch(work):
    """Ask apt, with lists of its own so that the system's stay as they are; it checks the signatures."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {SUITE} main\n")
    own = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State": work / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": work / "cache",
        "Acquire::Languages": "none",
        "Acquire::Retries": 0,
        "Acquire::http::Timeout": 10,
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in own.items())]
    for command in ([*apt, "update", "--error-on=any"], [*apt, "download", PACKAGE]):
        subprocess.run(command, cwd=work, capture_output=True, text=True, check=True, timeout=60)
    (package,) = work.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, work / "unpacked"], capture_output=True, text=True, check=True)


def _mirror():
    """The mirror this system uses, so that what may be reached is."""
    for source in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.*"))):
        if source.suffix in (".list", ".sources") and source.is_file():
            found = re.search(r"^(?:URIs:|deb\s+(?:\[.*?\])?)\s*(https?://\S+/debian)/?\s", source.read_text(), re.M)
            if found:
                return found[1]
    return "http://deb.debian.org/debian"
