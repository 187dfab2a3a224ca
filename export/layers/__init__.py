"""The layers of a graph that can explain it: where their elements come from, which is chosen, and the cost."""
