"""The commands of `fusioncam`, one per file. What only one needs is imported inside: export is slow to load."""
