"""Photos: files become the input of a model, and maps go back onto the photo."""
