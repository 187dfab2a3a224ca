"""The score graph in float16 or int8, and how far its maps drift."""
