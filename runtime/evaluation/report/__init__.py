"""Results of an evaluation: `summary` has the figures, `page` the HTML report, `table` the CSV or Parquet file."""
