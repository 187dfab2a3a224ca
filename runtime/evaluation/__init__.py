"""The evaluation of maps, for `fusioncam evaluate`.

`evaluator` measures photos, and `run` a folder: `questions` chooses the targets of a photo, `references` names those of
embeddings, `metrics` measure a map, `annotations` tell where the objects are, `store` keeps the rows, `statistics` has
the certainty of their means, and `pictures` and `report` show the results.
"""
