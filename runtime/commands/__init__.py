"""The commands of `fusioncam`, one per file. What only one needs is imported inside: the export stage is slow to load."""
