"""The parts of `benchmarks/gpu.py`: one module per stage, and what they share."""
