"""Entry point of the command line, also as `python -m fusioncam`."""

import sys
import traceback
from typing import NoReturn

from fusioncam.errors import print_error_json
from fusioncam.supervisor import INTERRUPTED, supervise


def main() -> None:
    """Load the command line and run it; Ctrl-C while it loads, or a package that does not load, is one line, too."""
    supervise(sys.argv[1:])
    try:
        from fusioncam.runtime.commands.app import main as run
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except (ImportError, OSError) as error:
        from fusioncam.libraries import describe_import_failure

        if "--debug" in sys.argv:
            traceback.print_exc()
        _fail("package", describe_import_failure(error) or str(error))
    run()


def _fail(kind: str, message: str) -> NoReturn:
    print_error_json(sys.argv[1:], kind, message)
    sys.exit(f"error: {message}")


if __name__ == "__main__":
    main()
