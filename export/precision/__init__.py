"""The score graph in float16 or int8, and the drift of its maps."""
