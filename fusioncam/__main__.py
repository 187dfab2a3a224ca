"""`python -m fusioncam` is the command line."""

from fusioncam.runtime.cli import main

main()
