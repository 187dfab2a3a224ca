"""`python -m fusioncam.runtime.bench.child`: measures the memory of one way of explaining; see `memory_of`."""

from fusioncam.runtime.bench.bundle import load_asked
from fusioncam.runtime.bench.memory import answer

if __name__ == "__main__":
    answer(load_asked)
