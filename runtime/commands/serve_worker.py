"""One worker process of `fusioncam serve`; the pool runs this module with `python -m`."""

import sys

from fusioncam.runtime.commands import console
from fusioncam.runtime.service.workers.worker import run_worker

if __name__ == "__main__":
    console.run_command(run_worker, sys.argv[1:])
