"""What the source says about pictures and classes: its own metadata, and the configurations beside it."""
