"""Metrics of maps: `catalogue` names every metric, and each family of metrics has a file of its own."""
