"""Execution providers of onnxruntime: `table` has one row for each, and other code asks it."""
