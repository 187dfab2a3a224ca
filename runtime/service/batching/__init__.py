"""Dynamic batching: the queue of one model, whose jobs share the runs of a session."""
