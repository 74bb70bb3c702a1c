"""The process that forks jobs for the tests."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from handful.device.targets import job
from tests.warm import Warm


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_it_outlives_the_thread_that_started_it_and_is_started_again(tmp_path: Path) -> None:
    warm, codes = Warm(), []

    def ask() -> None:  # a job without a file is an error of the job
        request = {"folder": str(tmp_path), "env": job._environment(1), "planted": False, "threads": 1}
        codes.append(warm.ask(request, 60.0))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    ask()
    assert codes == [1, 1] and "job.json" in (tmp_path / job.LOG).read_text()
    assert warm.server is not None
    warm.server.kill()
    warm.server.wait()
    ask()
    assert codes == [1, 1, 1]
    warm.close()
