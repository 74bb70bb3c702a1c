"""The child process of a job, with the planted runtimes and the tests' sources of boxes in the registry."""

import sys
from pathlib import Path

import handful.detect
import handful.device

handful.device.__path__.append(str(Path(__file__).parent / "planted"))
handful.detect.__path__.append(str(Path(__file__).parents[1] / "detect" / "eyes"))

from handful.device.job import main  # noqa: E402

sys.exit(main(Path(sys.argv[1])))
