"""The child process of a job, with the planted runtimes and the tests' sources of boxes in the registry."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import handful.detection
import handful.device.runtimes
import handful.models
from handful import files
from handful.fewshot import nemo
from handful.models import folder


def count_hashes(put: Callable[[Any, str, Any], None]) -> None:
    """Each file of a model folder that is hashed is written down, a line each."""
    plain = files.sha256

    def counted(path: Path) -> str:
        with open(os.environ["HANDFUL_TEST_HASHED"], "a", encoding="utf-8") as log:
            log.write(f"{path}\n")
        return plain(path)

    from handful.kinds import compiling

    for module in (files, nemo, folder, compiling):
        put(module, "sha256", counted)


if __name__ == "__main__":
    handful.device.runtimes.__path__.append(str(Path(__file__).parent / "planted"))
    handful.detection.__path__.append(str(Path(__file__).parents[1] / "detection" / "proposers"))
    handful.models.__path__.append(str(Path(__file__).parents[1] / "training" / "nets"))
    if "HANDFUL_TEST_HASHED" in os.environ:
        count_hashes(setattr)

    from handful.device.targets.worker import main

    sys.exit(main(Path(sys.argv[1])))
