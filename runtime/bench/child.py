"""The process that `memory_of` starts, which measures the memory of one explanation."""

from fusioncam.runtime.bench.bundle import load_asked
from fusioncam.runtime.bench.memory import answer

if __name__ == "__main__":
    answer(load_asked)
