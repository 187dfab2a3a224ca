"""Builds TensorRT engines without a GPU: the parts of `benchmarks/tensorrt.py`, which the tests use, too."""
