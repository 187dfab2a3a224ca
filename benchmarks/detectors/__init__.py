"""Detectors of libraries with random weights: their files, their own post-processing, and their scores in torch."""
