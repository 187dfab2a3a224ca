"""Targets: the scalars of a model's outputs that are explained, for one picture, and how they are read."""
