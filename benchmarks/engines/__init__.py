"""Builds TensorRT engines without a GPU: the parts of `benchmarks/engines.py`, which the tests use, too."""
