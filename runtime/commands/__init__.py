"""The commands of `fusioncam`, one per file. A command imports inside its function, as export is slow to load."""
