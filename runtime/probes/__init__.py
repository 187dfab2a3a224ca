"""Probes: questions to the model about one map of a picture, and what follows from the answers."""
