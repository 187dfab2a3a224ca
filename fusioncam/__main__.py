"""Entry point of the command line, also as `python -m fusioncam`."""

import sys


def main() -> None:
    """Load the command line and run it; Ctrl-C while it loads ends it in one line, too."""
    try:
        from fusioncam.runtime.cli import main as run
    except KeyboardInterrupt:
        sys.exit("error: interrupted; nothing half written is left behind")
    run()


if __name__ == "__main__":
    main()
