"""Pixel work: `reference` defines the method in NumPy, `masks` makes masks on the CPU, `cuda` does it all on GPUs."""
