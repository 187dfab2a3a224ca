"""Measuring explanations: are the maps right, and then, what do they cost? For `fusioncam bench` and `make bench`."""
