"""The child process of a job, with the planted runtimes and the tests' sources of boxes in the registry."""

import sys
from pathlib import Path

import handful.detection
import handful.device.runtimes

handful.device.runtimes.__path__.append(str(Path(__file__).parent / "planted"))
handful.detection.__path__.append(str(Path(__file__).parents[1] / "detection" / "proposers"))

from handful.device.targets.worker import main  # noqa: E402

sys.exit(main(Path(sys.argv[1])))
