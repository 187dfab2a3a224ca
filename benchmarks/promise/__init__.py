"""The promise of `auto` on many models: the models, stored scores, replayed plans, and the tables made of them."""
