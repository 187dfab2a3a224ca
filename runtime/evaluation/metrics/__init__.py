"""Metrics of maps: `catalogue` names them all, and each family has a file.

A metric of faithfulness asks the model about changed pictures: it stands in the table `PROBES` of `faithfulness`.
"""
