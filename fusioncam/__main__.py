"""Entry point of the command line, also as `python -m fusioncam`."""

import sys
import traceback

from fusioncam.supervisor import supervise


def main() -> None:
    """Load the command line and run it; Ctrl-C while it loads, or a package that does not load, is one line, too."""
    supervise(sys.argv[1:])
    try:
        from fusioncam.runtime.commands.app import main as run
    except KeyboardInterrupt:
        sys.exit("error: interrupted; no incomplete file is left behind")
    except (ImportError, OSError) as error:
        from fusioncam.libraries import describe_import_failure

        if "--debug" in sys.argv:
            traceback.print_exc()
        sys.exit(f"error: {describe_import_failure(error) or error}")
    run()


if __name__ == "__main__":
    main()
