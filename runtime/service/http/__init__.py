"""The HTTP side of the service: its application, middleware, sockets, and the way of a request to its answer."""
