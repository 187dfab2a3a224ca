"""The models of `fusioncam demo`, a file for each, and the training of all."""
