"""The results of many pictures, as files in a folder, for `fusioncam explain`.

`making` explains photos, in this process or in others, `folder` keeps the files, and `run` goes from photo to photo:
`names` finds names that no other file has, `earlier` knows what an earlier run has made, `table` writes a row for each
explanation.
"""
