"""The folder of an evaluation: the rows, kept so that an interrupted run continues."""
