"""What `benchmarks/fuzz.py` does: mutated models, bundles, requests and pictures, each with limits."""
