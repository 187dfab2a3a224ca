"""The sources of photos: names of files, folders, patterns and addresses become a stream of files to read."""
