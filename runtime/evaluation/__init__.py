"""The evaluation of maps, for `fusioncam evaluate`.

`evaluator` measures photos, and `run` a folder: `metrics` measure a map, `annotations` tell where the objects are,
`store` keeps the rows, `statistics` has the certainty of their means, and `report` writes the results.
"""
