"""The measurement of explanations: maps are checked first, then timed. For `fusioncam bench` and `make bench`."""
