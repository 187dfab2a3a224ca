"""The parts of `benchmarks/unchanged.py`: each adds digests of one side of fusioncam."""
