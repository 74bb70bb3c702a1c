"""The child process of a job, with the planted runtimes in the registry."""

import sys
from pathlib import Path

import handful.device

handful.device.__path__.append(str(Path(__file__).parent / "planted"))

from handful.device.job import main  # noqa: E402

sys.exit(main(Path(sys.argv[1])))
