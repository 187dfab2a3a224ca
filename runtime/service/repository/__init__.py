"""The models of the service: found on disk, opened, replaced while requests run, and closed."""
