"""Processes of the service that are told to end."""

import os
import signal

import numpy as np
import pytest

from fusioncam import Explainer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and process groups are those of POSIX systems")


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGINT), (2, signal.SIGTERM)])
def test_what_was_begun_is_finished(bundle, photo, workers, number, until, service, asking, read):
    method = "group_cam,score_cam,union_cam,fusion_cam"
    wanted = Explainer(bundle, methods=["group_cam"]).explain(photo).maps["group_cam"]
    with service(bundle, "--workers", str(workers)) as running:
        connection = running.connect()
        connection.request(*asking(photo, 16, method))
        until(lambda: b'fusioncam_chunk_seconds_count{model="shapes"}' in running.ask("GET", "/metrics")[1])
        running.process.send_signal(number)
        read(connection.getresponse(), np.stack([wanted] * 16))
        assert running.end() == ""
        assert running.process.returncode == 0
        with pytest.raises(OSError, match="refused"):
            running.ask("GET", "/v2/health/live")


SLOW = """
import time
from fusioncam.runtime.commands.app import main
from fusioncam.runtime.service.http import infer_handler
infer_handler.prepare_request = lambda *_: time.sleep(600)
main()
"""


def test_a_photo_that_takes_for_ever_does_not_keep_it_from_ending(bundle, photo, service, asking):
    with service(bundle, "--timeout", "0.3", start=("-c", SLOW)) as running:
        assert running.ask(*asking(photo))[0] == 504
        assert running.end() == ""
        assert running.process.returncode == 0
