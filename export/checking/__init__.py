"""A bundle held against its source, and a layer against the scores it must change."""
