"""Parts of the benchmark of detections: who makes maps, and its tables."""
