"""Rules of architecture: imports go one way, nothing heavy loads early, the map in the docs is the house."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "src" / "handful"
LAYERS = ["arrays", "errors", "words", "running", "pick", "threads", "boxes", "heif", "image_bytes", "image", "types",
          "progress", "engine", "places", "locks", "files", "plotting", "results", "evaluation", "parallel", "bundle",
          "shipped", "data", "store", "curate", "lucid", "models", "training", "fewshot", "detection", "select",
          "video", "device", "kinds", "api", "studio", "demo", "sample_data", "cli", "__main__"]  # fmt: skip
HEAVY = {"torch", "timm", "torchvision", "PIL", "scipy", "matplotlib", "jinja2", "onnx", "onnxruntime", "safetensors",
         "sklearn", "skimage", "msgspec", "pycocotools", "defusedxml", "yaml", "sqlalchemy", "alembic",
         "cv2", "av", "ray", "accelerate", "filelock",
         "tensorboard", "ai_edge_litert", "litert_torch", "executorch", "ncnn", "pnnx"}  # fmt: skip
NAMES_ITSELF = {"__version__"}
NEEDS = {"need", "pick", "import_module", "__import__"}
# a bundle is all that the device's room knows of a model: who else is needed is told to it by name
NOT_FOR_DEVICE = {"fewshot", "detection", "select", "training", "models", "kinds"}


def sources() -> dict[str, str]:
    return {
        str(path.relative_to(SOURCE).with_suffix("")): path.read_text()
        for path in SOURCE.rglob("*.py")
        if path.name != "__init__.py"
    }


def upward_imports(texts: dict[str, str]) -> list[str]:
    """{"data/store": "import handful.training"} -> ["data/store imports handful.training"]."""
    bad = []
    for where, text in texts.items():
        mine = LAYERS.index(where.split("/")[0])
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                to = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level:
                bad.append(f"{where} has a relative import")
                continue
            elif isinstance(node, ast.ImportFrom):
                to = [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in NAMES_ITSELF]
            else:
                continue
            for name in to:
                parts = name.split(".")
                if parts[0] == "handful" and len(parts) > 1 and LAYERS.index(parts[1]) > mine:
                    bad.append(f"{where} imports {name}")
    return bad


def imports_of(texts: dict[str, str], room: str, others: set[str]) -> list[str]:
    """What a room imports from others that it must not know, wherever in a file, by any way of importing."""
    bad = []
    for where, text in texts.items():
        if where.split("/")[0] != room:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                to = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                to = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in NEEDS:
                to = [str(one.value) for one in node.args if isinstance(one, ast.Constant)]
            else:
                continue
            own = [name.split(".") for name in to]
            bad += [f"{where} imports {'.'.join(n)}" for n in own if n[0] == "handful" and n[1:2] and n[1] in others]
    return bad


def early_imports(texts: dict[str, str], heavy: set[str]) -> list[str]:
    """Heavy packages imported when a file of the light parts is imported."""
    light = {"errors", "pick", "types", "progress", "files", "cli", "data", "curate"}
    bad = []
    for where, text in texts.items():
        if where.split("/")[0] not in light:
            continue
        for node in ast.parse(text).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            bad += [f"{where} imports {name}" for name in names if name.split(".")[0] in heavy]
    return bad


def test_imports_go_one_way() -> None:
    assert upward_imports(sources()) == []


@pytest.mark.parametrize(
    "text",
    [
        "import handful.fewshot",
        "from handful import fewshot",
        "from handful.fewshot import nemo",
        "from ..fewshot import nemo",
        "def f():\n    from handful.fewshot import nemo",
    ],
)
def test_an_upward_import_is_caught(text: str) -> None:
    assert len(upward_imports({"data/images": text})) == 1
    assert upward_imports({"fewshot/nemo": "from handful.data import paths\nfrom handful import __version__"}) == []


def test_the_devices_room_knows_no_model() -> None:
    texts = sources()
    assert sum(where.startswith("device/") for where in texts) > 15
    assert imports_of(texts, "device", NOT_FOR_DEVICE) == []


@pytest.mark.parametrize(
    "text",
    [
        "from handful.detection.irene import Irene",
        "import handful.fewshot.nemo",
        "def f():\n    from handful import kinds",
        "import importlib\ndef f():\n    importlib.import_module('handful.training.loop')",
        "from handful.pick import need\nneed('handful.select.heatmap', 'detect')",
    ],
)
def test_a_model_in_the_devices_room_is_caught(text: str) -> None:
    assert len(imports_of({"device/lab/x": text}, "device", NOT_FOR_DEVICE)) == 1
    assert (
        imports_of({"kinds/x": text, "device/y": "from handful.bundle import Bundle"}, "device", NOT_FOR_DEVICE) == []
    )


def test_light_parts_import_nothing_heavy() -> None:
    assert early_imports(sources(), HEAVY) == []
    assert early_imports({"cli": "import torch"}, HEAVY) == ["cli imports torch"]


@pytest.mark.parametrize("what", ["import handful", "import handful.cli, handful.types, handful.image"])
def test_importing_loads_nothing_heavy(what: str) -> None:
    code = f"import sys; {what}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "handful" in loaded
    assert not HEAVY & set(loaded)


def test_help_does_not_even_load_numpy() -> None:
    code = (
        "import sys\nfrom handful.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\nprint('numpy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split()[-1] == "False"


def test_files_stay_readable() -> None:
    long = {str(p.relative_to(ROOT)): n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}


def test_no_unpickling() -> None:
    """The only pickle that is opened is the pinned weights file, after its hash, with weights_only."""
    for name, text in sources().items():
        assert "pickle.load" not in text and "allow_pickle=True" not in text, name
        if "torch.load(" in text:
            assert text.count("torch.load(") == text.count("weights_only=True"), name


def test_license_and_ci() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert Path(ROOT / ".ci" / "run").read_text().rstrip().endswith("make test")


def test_make_test_installs_what_developers_need() -> None:
    """The dev group of pyproject.toml and the line of the Makefile are one list: TensorBoard was in the first alone, so
    that its test was skipped wherever it could have run."""
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]
    extras = {e for name in group for e in re.findall(r"\[(.*)\]", name) for e in e.split(",")}
    line = next(row for row in (ROOT / "Makefile").read_text().splitlines() if '".[all,' in row)
    installed = re.search(r"""\.\[(.*?)\]" (.*)""", line)
    assert installed and extras | {"all"} == set(installed[1].split(","))
    assert set(installed[2].split()) == {name for name in group if "[" not in name}


def absent_names(text: str, beside: Path) -> list[str]:
    """What a script takes from handful, or from a file beside it, that is not there."""
    bad = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
            continue
        own = beside / f"{node.module}.py"
        if own.exists():
            there = {getattr(n, "name", None) or getattr(getattr(n, "target", None), "id", None)
                     for n in ast.parse(own.read_text()).body}  # fmt: skip
            there |= {t.id for n in ast.parse(own.read_text()).body if isinstance(n, ast.Assign) for t in n.targets
                      if isinstance(t, ast.Name)}  # fmt: skip
            bad += [f"{node.module}.{a.name}" for a in node.names if a.name not in there]
        elif node.module.split(".")[0] == "handful":
            module = importlib.import_module(node.module)
            bad += [f"{node.module}.{a.name}" for a in node.names if not hasattr(module, a.name) and not (
                    hasattr(module, "__path__") and importlib.util.find_spec(f"{node.module}.{a.name}"))]  # fmt: skip
    return bad


@pytest.mark.parametrize("folder", ["benchmarks", "tools"])
def test_scripts_take_only_what_is_there(folder: str) -> None:
    scripts = sorted((ROOT / folder).glob("*.py"))
    assert scripts
    assert {s.name: bad for s in scripts if (bad := absent_names(s.read_text(), s.parent))} == {}


def test_a_name_that_is_gone_is_caught() -> None:
    text = "from handful.errors import DataError, Gone\nfrom common import save, lost\nfrom handful import detection\n"
    assert absent_names(text, ROOT / "benchmarks") == ["handful.errors.Gone", "common.lost"]
