"""The logs and metrics of the service."""
