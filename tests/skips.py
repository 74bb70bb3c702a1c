"""In CI a test that is skipped is a test that was not run: told, and a failure of the run unless it is one of ALLOWED.

CI says so by HANDFUL_REQUIRE (see .ci/run), which also lists what has to be there: runtimes, database servers, `data`.
Elsewhere a skip is shown with its reason at the end of the run (`-ra`), and nothing more.
"""

from __future__ import annotations

import os
import re

import pytest

from handful.pick import pick, present

# what CI may skip: the reason, as the test gives it
ALLOWED = [
    r"no photographs at .*; set HANDFUL_DATA",  # a clone without the shared photographs; never with `data` required
    r"is compiled without its layers here, to save half a minute",  # the same runtime's fp32 has them
    r"cells of the table were not tried in this run",  # where a runtime is absent, which is told by its own tests
    r"only glibc gives every large tensor a mapping of its own",
    r"this file system cannot exchange two folders",  # some overlays; the two steps are tested everywhere
    r"forks, and needs a file size limit|needs a file size limit|looks for processes in /proc",  # POSIX, Linux
    r"the history to the commit that made .* is not here|no git history here",  # a shallow clone, an unpacked archive
]
not_allowed: list[tuple[str, str]] = []  # (test, reason)


def required(name: str) -> bool:
    """Whether HANDFUL_REQUIRE lists it: then what would be a skip is a failure."""
    return name in os.environ.get("HANDFUL_REQUIRE", "").split(",")


def need(there: bool, name: str, why: str) -> None:
    """Skip when something is not there, with the reason; fail when HANDFUL_REQUIRE lists it."""
    if not there:
        (pytest.fail if required(name) else pytest.skip)(why)


def need_runtime(name: str) -> None:
    """Skip when a phone runtime's packages are absent; fail when HANDFUL_REQUIRE lists it."""
    import handful.device.runtimes

    runtime = pick(handful.device.runtimes, "runtime", name)
    absent = [module for module in runtime.MODULES if not present(module)]
    need(not absent, name, f"{name} needs {', '.join(absent)}; run: pip install 'handful[{runtime.EXTRA}]'")


def note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and "HANDFUL_REQUIRE" in os.environ:
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(re.search(allowed, reason) for allowed in ALLOWED):
            not_allowed.append((report.nodeid, reason.removeprefix("Skipped: ")))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    note(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not_allowed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not_allowed:
        terminalreporter.section("skipped, and must not be where HANDFUL_REQUIRE is set", red=True)
        for test, reason in not_allowed:
            terminalreporter.write_line(f"{test}: {reason}")
