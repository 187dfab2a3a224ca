"""Parts of `choosing.py`: the transformer that it trains, and its table."""
