"""Pixel work: `reference` defines every step of the method in NumPy, `masks` makes masked pictures fast on the CPU."""
