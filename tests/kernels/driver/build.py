"""Compiles the driver that is none."""

import importlib.util
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
STUB = """
extern "C" int fake_unsupported(const char *);
#define STUB(NAME) \\
    extern "C" __attribute__((weak, visibility("default"))) int NAME() { return fake_unsupported(#NAME); }
"""


def build(folder):
    """Make libcuda.so.1 in `folder`."""
    stubs = folder / "stubs.cpp"
    stubs.write_text(STUB + "".join(f"STUB({name})\n" for name in names_pycuda_needs()))
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"]
    sources = [*sorted(HERE.glob("*.cpp")), stubs]
    linking = ["-Wl,-soname,libcuda.so.1,-z,defs", "-ldl", "-o", folder / "libcuda.so.1"]
    done = subprocess.run([*command, *sources, *linking], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def names_pycuda_needs():
    """PyCUDA's library is linked to the driver's functions by name, and does not load unless it finds them all."""
    package = importlib.util.find_spec("pycuda")
    if package is None:
        return []
    names = set()  # a package that another test has left has no library
    for library in Path(package.origin).parent.glob("_driver*.so"):
        names |= {name.decode() for name in re.findall(rb"\0(cu[A-Z]\w+)(?=\0)", library.read_bytes())}
    return sorted(names)
