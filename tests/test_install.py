"""Setting up: where PyTorch is taken from and why, by a fake index on this machine; nothing is downloaded."""

from __future__ import annotations

import ast
import contextlib
import functools
import http.server
import importlib.metadata
import os
import platform
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import handful.device.runtimes
from handful.pick import names, pick
from tests.conftest import ROOT

VERSION = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]  # type: ignore[index]
TAG = f"cp{sys.version_info[0]}{sys.version_info[1]}"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
linux = pytest.mark.skipif(platform.system() != "Linux", reason="elsewhere PyPI's build has no CUDA")


def wheel(version: str, tag: str = TAG) -> str:
    return f'<a href="/whl/torch-{version}%2Bcpu-{tag}-{tag}-manylinux_2_28_{platform.machine()}.whl">torch</a>'


PAGES = {
    "/good/torch/": wheel("1.0") + wheel(VERSION, "cp27") + wheel(VERSION),
    "/old/torch/": wheel("1.0") + wheel(VERSION + ".post1"),
    "/other/torch/": wheel(VERSION, "cp27"),
}


class Index(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = PAGES.get(self.path)
        self.send_response(200 if page else 404)
        self.end_headers()
        self.wfile.write((page or "no such page").encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def mute() -> Iterator[str]:
    """Takes a connection and says nothing."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        yield f"http://127.0.0.1:{held.getsockname()[1]}/cpu"


def environment(**more: str) -> dict[str, str]:
    left_out = ("TORCH_INDEX", "PYTHON", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    return {**{k: v for k, v in os.environ.items() if k not in left_out}, **more}


def chosen(*args: str, **env: str) -> tuple[str, str]:
    """What torch_index.py prints: the index and the reason."""
    command = [sys.executable, "-S", str(ROOT / "tools" / "torch_index.py"), *args]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(**env))
    return run.stdout.strip(), run.stderr.strip()


@linux
def test_an_index_that_answers_is_taken_where_there_is_no_driver(index: str, tmp_path: Path) -> None:
    place, why = chosen("--cpu-index", f"{index}/good", "--driver", str(tmp_path / "absent"))
    assert place == f"{index}/good"
    assert why == f"handful: PyTorch from {index}/good, without CUDA: there is no NVIDIA driver"


@linux
@pytest.mark.parametrize(
    ("page", "reason"),
    [("old", f"has no torch {VERSION} for Python {TAG}"), ("other", f"has no torch {VERSION} for Python {TAG}"),
     ("gone", "does not answer (Not Found)")],
)  # fmt: skip
def test_an_index_without_this_version_is_not_taken(index: str, tmp_path: Path, page: str, reason: str) -> None:
    place, why = chosen("--cpu-index", f"{index}/{page}", "--driver", str(tmp_path / "absent"))
    assert place == "" and why.startswith("handful: PyTorch from PyPI, with 4.6 GB of CUDA libraries") and reason in why


@linux
def test_an_index_that_does_not_answer_is_not_waited_for(mute: str, tmp_path: Path) -> None:
    given = "--driver", str(tmp_path / "absent"), "--within", "0.5", "--cpu-index"
    for address, said in ((mute, "does not answer"), ("http://127.0.0.1:1/cpu", "Connection refused")):
        place, why = chosen(*given, address)
        assert place == "" and said in why and "PyTorch from PyPI" in why


@linux
def test_with_a_driver_the_build_with_cuda_is_taken(index: str, tmp_path: Path) -> None:
    (tmp_path / "version").touch()
    place, why = chosen("--cpu-index", f"{index}/good", "--driver", str(tmp_path / "version"))
    assert place == "" and "with CUDA: there is an NVIDIA driver" in why


def test_what_the_user_asks_for_is_taken() -> None:
    assert chosen(TORCH_INDEX="http://127.0.0.1:1/mine")[0] == "http://127.0.0.1:1/mine"
    assert chosen("http://127.0.0.1:1/mine", TORCH_INDEX="pypi")[0] == "http://127.0.0.1:1/mine"
    assert chosen(TORCH_INDEX="pypi") == ("", "handful: PyTorch from PyPI, as asked")


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A virtual environment whose Python only writes down how it is called, and fails if told so."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/calls"\n[ -z "$PIP_FAILS" ] || echo "ERROR: $PIP_FAILS"\n'
                      '[ -z "$PIP_FAILS" ]\n')  # fmt: skip
    python.chmod(0o755)
    return tmp_path


def installed(fake: Path, **env: str) -> subprocess.CompletedProcess[str]:
    env = {"PYTHON": sys.executable, "NVIDIA_DRIVER": str(fake / "absent"), **env}
    command = ["sh", "tools/install.sh", str(fake / "venv"), ".[demo]", "pytest"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(**env))


PIP = "-m pip install --disable-pip-version-check --retries 2 -c constraints.txt"


@linux
def test_install_takes_the_index_that_answers(index: str, fake: Path) -> None:
    run = installed(fake, CPU_INDEX=f"{index}/good")
    assert run.returncode == 0 and f"PyTorch from {index}/good, without CUDA" in run.stderr
    assert (fake / "calls").read_text() == f"{PIP} --extra-index-url {index}/good --editable .[demo] pytest\n"


@linux
def test_install_goes_on_without_it(fake: Path) -> None:
    run = installed(fake, CPU_INDEX="http://127.0.0.1:1/cpu")
    assert run.returncode == 0 and "PyTorch from PyPI, with 4.6 GB" in run.stderr
    assert (fake / "calls").read_text() == f"{PIP} --editable .[demo] pytest\n"


def test_install_says_why_it_failed(fake: Path) -> None:
    run = installed(fake, TORCH_INDEX="http://127.0.0.1:1/mine", PIP_FAILS="no such version")
    assert run.returncode == 2 and "the install failed: ERROR: no such version" in run.stderr
    assert "TORCH_INDEX=pypi" in run.stderr
    run = installed(fake, TORCH_INDEX="pypi", PIP_FAILS="Network is unreachable")
    assert run.returncode == 2 and "go online" in run.stderr and "TORCH_INDEX=pypi" not in run.stderr


def test_a_python_that_does_not_do(fake: Path) -> None:
    old = fake / "python2"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 2.7"\nexit 1\n')
    old.chmod(0o755)
    for given, said in ((str(old), "python2 is Python 2.7; wanted Python 3.11, 3.12 or 3.13"), ("", "no Python 3.11")):
        run = installed(fake, PYTHON=given)
        assert run.returncode == 2 and said in run.stderr and not (fake / "calls").exists()


def test_the_versions_of_python_are_said_once() -> None:
    """pyproject, the Makefile and install.sh agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = [c.split(" :: ")[-1] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert project["requires-python"] == f">={versions[0]}" and len(versions) > 1
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"for p in (.*?); do", makefile)[1].split() == [f"python{v}" for v in versions] + ["python3"]  # type: ignore[index]
    said = f"{', '.join(versions[:-1])} or {versions[-1]}"
    script = (ROOT / "tools" / "install.sh").read_text()
    assert script.count(said) == 2 and said in makefile
    low, high = (tuple(map(int, v.split("."))) for v in (versions[0], versions[-1]))
    assert f"{low} <= sys.version_info[:2] <= {high}" in script


def test_what_runs_a_bundle_is_small() -> None:
    """handful[RUNTIME] brings no converter; handful[compile-RUNTIME] brings it, and torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert any(d.startswith("pillow") for d in project["dependencies"])
    for runtime, package in (("onnxruntime", "onnxruntime"), ("litert", "ai-edge-litert"), ("ncnn", "ncnn")):
        assert [re.match(r"[\w-]+", d)[0] for d in extras[runtime]] == [package]  # type: ignore[index]
        assert f"handful[{runtime},teach]" in extras[f"compile-{runtime}"]
        assert f"compile-{runtime}" in extras["compile"][0]
    assert any("compile" in d for d in extras["demo"]) and any("demo" in d for d in extras["all"])


@functools.cache
def needs(name: str) -> tuple[Requirement, ...]:
    """What an installed package needs without extras; nothing is known of one that is not here."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found = map(Requirement, importlib.metadata.requires(name) or ())
        return tuple(one for one in found if one.marker is None or one.marker.evaluate({"extra": ""}))
    return ()


@functools.cache
def provided(extra: str) -> set[str]:
    """The packages that pip brings for handful[extra], with what they need, as far as they are installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    todo = [Requirement(d) for d in [*project["dependencies"], *project["optional-dependencies"][extra]]]
    found: set[str] = set()
    while todo:
        one = todo.pop()
        if one.name == "handful":
            todo += [Requirement(d) for name in one.extras for d in project["optional-dependencies"][name]]
        elif (name := canonicalize_name(one.name)) not in found:
            found.add(name)
            todo += needs(name)
    return found


def wanted() -> set[tuple[str, str]]:
    """Every (module, extra) that some part of handful asks for in words of its own."""
    found = set()
    for path in (ROOT / "src" / "handful").rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "need(" in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "need":
                module, extra = node.args
                if isinstance(module, ast.Constant) and isinstance(extra, ast.Constant):
                    found.add((module.value, extra.value))
    for name in names(handful.device.runtimes, "runtime"):
        runtime = pick(handful.device.runtimes, "runtime", name)
        found |= {(module, runtime.EXTRA) for module in runtime.MODULES}
        found |= {(module, runtime.RUN_EXTRA) for module in runtime.RUNS}
    return found


def unhelpful(pairs: set[tuple[str, str]]) -> list[str]:
    """Those whose pip line would not bring the module."""
    other = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml"}
    bad = []
    for module, extra in sorted(pairs):
        parts = module.split(".")  # torch.utils.tensorboard is a part of one package that needs another
        brought = {canonicalize_name(other.get(part, part)) for part in parts}
        if extra not in EXTRAS:
            bad.append(f"there is no handful[{extra}], which should bring {module}")
        elif not brought & provided(extra):
            bad.append(f"handful[{extra}] does not bring {module}")
    return bad


def test_the_pip_line_of_an_error_brings_what_is_missing() -> None:
    pairs = wanted()
    assert len(pairs) > 40 and unhelpful(pairs) == []
    assert unhelpful({("torch", "data"), ("av", "film"), ("torch", "teach"), ("onnx", "onnxruntime")}) == [
        "there is no handful[film], which should bring av",
        "handful[onnxruntime] does not bring onnx",
        "handful[data] does not bring torch",
    ]
