"""What of a compiled model goes into an app: its files with their sizes, what goes in and out, code that runs it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from handful.bundle import LABELS, MANIFEST, README
from handful.files import read_json

TO_READ = (MANIFEST, README)  # for people and programs; an app runs without them
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.S)


def in_an_app(folder: Path) -> dict[str, Any]:
    """A JSON object: files, each with name, bytes, needed; takes and gives in words; before and after, the steps around
    the network; code, each with title, text (Markdown) and source, as the bundle's own README.md has them."""
    meta = read_json(folder / MANIFEST)
    files = [
        {"name": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "needed": path.name not in TO_READ}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    ports = {side: meta["graphs"][0][side][0] for side in ("inputs", "outputs")}
    names = ports["outputs"].get("labels", [])
    code = []
    for section in re.split(r"\n## ", (folder / README).read_text(encoding="utf-8"))[1:]:
        if blocks := FENCE.findall(section):
            title, _, text = FENCE.sub("", section).partition("\n")
            code.append({"title": title, "text": " ".join(text.split()), "source": "\n".join(b for _, b in blocks)})
    return {
        "files": sorted(files, key=lambda one: (not one["needed"], -one["bytes"])),
        "takes": _port(ports["inputs"]),
        "gives": _port(ports["outputs"]) + (f", in the order of {LABELS}: {', '.join(names)}" if names else ""),
        "before": meta["preprocessing"]["steps"],
        "after": meta["postprocessing"]["steps"],
        "code": code,
    }


def _port(port: dict[str, Any]) -> str:
    kind = f"{port['name']}: {port['dtype']} ({', '.join(map(str, port['shape']))})"
    return kind + (f", {port['color_order']}" if "color_order" in port else "")
