"""The parts of `benchmarks/cpu.py`: one module per stage, and what they share."""
