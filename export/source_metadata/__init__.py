"""The description of pictures and classes in the source: its own metadata, and configurations beside it."""
