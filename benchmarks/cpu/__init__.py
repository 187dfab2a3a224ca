"""The parts of `benchmarks/cpu.py`: one module per stage, and the modules that the stages share."""
