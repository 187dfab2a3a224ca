"""The trials of `benchmarks/fuzz.py`: mutated models, bundles, requests and pictures, each with limits."""
