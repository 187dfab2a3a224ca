"""The parts of the load test, see service.py beside this folder."""
