"""Python as an app's machine has it: whatever is asked of it runs without the packages that are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAVY = (
    "torch", "torchvision", "timm", "scipy", "cv2", "safetensors", "sklearn", "skimage", "matplotlib", "pandas", "onnx",
    "onnxscript", "litert_torch", "pnnx", "accelerate", "jinja2",
)  # fmt: skip
HOOK = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ImportError(f"{{name}} is refused here")
sys.meta_path.insert(0, Refused())
"""


def run(code: str, *args: object, refused: tuple[str, ...] = HEAVY, cwd: Path | None = None) -> str:
    """What code prints. Raises AssertionError with its errors when it fails."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOOK.format(names=set(refused)) + code, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def script(path: Path, *args: object, refused: tuple[str, ...] = (*HEAVY, "handful")) -> str:
    """The same of a file that is run as it stands."""
    code = f"import runpy; sys.argv[0] = {str(path)!r}; runpy.run_path({str(path)!r}, run_name='__main__')"
    return run(code, *args, refused=refused)
