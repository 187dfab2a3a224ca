"""How good the maps are: metrics, what is known of the photos, and a report. See `fusioncam evaluate`."""
