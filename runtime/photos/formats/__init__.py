"""Formats of picture files that OpenCV reads wrong or not at all: `repair` corrects or refuses them."""
