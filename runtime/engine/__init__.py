"""The engine: the work of one request, from a preprocessed picture to its maps."""
