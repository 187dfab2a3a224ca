"""The gRPC side of the service: the Open Inference Protocol's messages, and the way of a call to its answer.

The messages are those that tritonclient brings.
"""
