"""Files are the registry: `runtime_ncnn.py` in a folder is the runtime "ncnn", with no list to keep in step."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from handful.errors import MissingPackage, UnknownName


def names(package: ModuleType, kind: str) -> list[str]:
    """names(handful.device.runtimes, "runtime") -> ["executorch", "litert", ...], from the files runtime_*.py."""
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name.removeprefix(kind + "_") for name in found if name.startswith(kind + "_"))


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that does not exist, with the nearest one that does."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UnknownName(f"no {kind} named {name!r}; there is {', '.join(known) or 'none'}{hint}")


def pick(package: ModuleType, kind: str, name: str) -> ModuleType:
    """The module behind a name. Raises UnknownName with the nearest real one."""
    known = names(package, kind)
    if name not in known:
        raise unknown(kind, name, known)
    return importlib.import_module(f"{package.__name__}.{kind}_{name}")


def need(module: str, extra: str) -> ModuleType:
    """Import an optional package, or raise MissingPackage with the exact pip line."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(f"{module} cannot be imported ({error}); run: pip install 'handful[{extra}]'") from error


def present(module: str) -> bool:
    """Whether a package is installed, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
