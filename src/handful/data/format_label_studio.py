"""Label Studio: its JSON (full) and JSON-MIN exports, one list of tasks, or a folder of tasks.

https://labelstud.io/guide/export. Rectangles are boxes; polygons, ellipses and turned rectangles outlines; brushes
pixels; a choice is the image's class; keypoints and videos are told (unheld_mark). Of several people's answers
(several_answers) the ground truth counts, else the first; one that was cancelled is none, and predictions are none
either. Images are found by the end of their path or URL, also without the eight letters that an upload adds.

Not held: tracks, several parts of one outline, licenses, parents, classes and boxes beside outlines or pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from handful.data import sniff
from handful.data.finding import Finding, OnFinding, stop
from handful.data.json_labels import LARGE, json_value
from handful.data.label_studio_rows import LABELS, OTHERS, answer_of, choice_of, marks_of, regions_of, shape_of
from handful.data.listed import Row, assembled, root_of
from handful.data.marks import Said
from handful.data.paths import Shelf, is_image_name
from handful.data.writing import Writer, size_for_writing
from handful.errors import DataError
from handful.files import to_json
from handful.types import Dataset
from handful.words import counted

TITLE = "Label Studio JSON (full and MIN)"
TREE = """\
project.json   [{"data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": [
                 {"type": "rectanglelabels", "original_width": 160, "original_height": 120, "value":
                  {"x": 0.6, "y": 0.8, "width": 30.6, "height": 49.2, "rotation": 0, "rectanglelabels": ["mug"]}}]}]}]
images/
  a.jpg
"""
PRECEDENCE = 33
MARKS = True
FILE, CONFIG = "label_studio.json", "label_config.xml"
_FULL = re.compile(rb'"(annotations|completions)"\s*:\s*\[')
_RESULT = re.compile(rb'"(result|was_cancelled|completed_by|file_upload|predictions|drafts)"\s*:')
_DATA = re.compile(rb'"data"\s*:\s*\{')
_MIN = re.compile(rb'"(annotator|annotation_id|lead_time|rectanglelabels|polygonlabels|brushlabels|ellipselabels)"\s*:')
_LIST = re.compile(rb"^(\xef\xbb\xbf)?\s*[\[{]")


def _is_it(data: bytes) -> bool:
    if _LIST.search(data) is None:
        return False
    full = _FULL.search(data) is not None and _RESULT.search(data) is not None and _DATA.search(data) is not None
    return full or len(set(_MIN.findall(data))) >= 2


def detect(folder: Path) -> bool:
    """Whether an export of Label Studio's lies below the folder, or it is one."""
    return sniff.is_there(folder, ".json", is_it=_is_it)


def read(folder: Path, *, on_finding: OnFinding = stop) -> Dataset:
    """The samples of every export below a folder. Raises DataError when there is none."""
    place = Path(folder)
    root = root_of(place)
    shelf = Shelf(root, root)
    names = sniff.all_of(place, shelf.others, ".json", is_it=_is_it)
    if not names:
        raise DataError(f"{folder} has no export of Label Studio's in it; wanted its JSON or JSON-MIN")
    rows: list[Row] = []
    for name in names:
        value = json_value(root / name, root, on_finding, most=LARGE) if shelf.inside(name, on_finding) else None
        tasks = value if isinstance(value, list) else [value] if isinstance(value, dict) else []
        for i, task in enumerate(tasks, 1):
            if isinstance(task, dict):
                rows += _row(task, i, name, on_finding)
            else:
                detail = f"has the task {str(task)[:60]!r}; wanted an object"
                on_finding(Finding("broken_label", name, i, detail=detail))
    return assembled("label_studio", shelf, rows, on_finding)


def _row(task: Mapping[str, Any], i: int, file: str, on_finding: OnFinding) -> Iterator[Row]:
    key = task.get("id") if isinstance(task.get("id"), int | str) else i
    what = f"task {str(key)[:40]}"
    data = task["data"] if isinstance(task.get("data"), dict) else task
    images = {k: v for k, v in data.items() if isinstance(v, str) and _is_image(k, v)}
    if len(images) > 1 and "image" in images:
        images = {"image": images["image"]}
    if len(images) > 1:
        detail = f"has {counted(len(images), 'image')} in {what} ({', '.join(sorted(images))[:100]}); wanted one"
        on_finding(Finding("broken_label", file, sorted(images)[:20], detail=detail))
        return
    split = data.get("split") if isinstance(data.get("split"), str) else None
    name = next(iter(images.values()), None) or task.get("file_upload") or data.get("image")
    yield Row(name, file, lambda tell: _said(task, what, file, tell), split=split)


def _is_image(key: str, value: str) -> bool:
    path = value.split("?")[0] if not value.startswith("/data/local-files") else value
    return is_image_name(path) or (key.lower() in ("image", "img", "image_url", "photo") and len(value) < 4096)


def _said(task: Mapping[str, Any], what: str, file: str, tell: OnFinding) -> Said:
    result = _result(task, what, file, tell)
    if result is None:
        return Said()
    answer = answer_of(result)
    label, choices = choice_of(answer)
    if len(choices) > 1:
        detail = f"says that {what} is {' and '.join(choices[:5])[:200]}; wanted one class"
        tell(Finding("several_classes", file, choices[:20], detail=detail))
    if answer.choices and not answer.regions:
        return Said(size_wh=answer.size_wh, label=label)
    size = answer.size_wh
    if not answer.regions:
        return Said([], size, label)
    return Said(size_wh=size, label=label, scaled=lambda scale: list(marks_of(answer, what, scale)))


def _result(task: Mapping[str, Any], what: str, file: str, tell: OnFinding) -> list[Any] | None:
    """One person's answer; None where nobody looked."""
    answers = task.get("annotations", task.get("completions"))
    if not isinstance(answers, list):
        return _short(task)
    held = [a for a in answers if isinstance(a, dict) and a.get("was_cancelled", a.get("skipped")) is not True]
    truth = [a for a in held if a.get("ground_truth") is True]
    held = truth if len(truth) == 1 else held
    if len(held) > 1:
        detail = f"has {len(held)} people's answers for {what}; only the first is read"
        tell(Finding("several_answers", file, len(held), len(held), detail))
    if not held:
        return None
    result = held[0].get("result")
    if isinstance(result, list):
        return result
    detail = f"has an answer for {what} whose result is a JSON {type(result).__name__}; wanted a list"
    tell(Finding("broken_label", file, type(result).__name__, detail=detail))
    return None


def _short(task: Mapping[str, Any]) -> list[Any] | None:
    """The rows of JSON-MIN: under the names of the controls ("label", "bbox", "choice")."""
    found: list[Any] = []
    seen = False
    for key, value in task.items():
        if isinstance(value, list) and all(isinstance(v, dict) for v in value) and key not in ("data", "meta"):
            # of a region that names no class nobody says that there is nothing: it is told
            regions = [row for row in value if shape_of(row) or any(k in row for k in (*LABELS, *OTHERS, "labels"))]
            seen = seen or bool(regions) or not value
            found += regions
        elif key in ("choice", "choices", "class", "label") and value:
            choices = value.get("choices") if isinstance(value, dict) else value
            seen = True
            found.append({"type": "choices", "value": {"choices": choices if isinstance(choices, list) else [choices]}})
    return found if seen else None


def write(dataset: Dataset, writer: Writer) -> None:
    """Write label_studio.json (tasks to import), images/ and label_config.xml, the project's labeling interface.

    Images are named as Label Studio serves a folder of its own machine: with LOCAL_FILES_DOCUMENT_ROOT at the written
    folder. An image nobody labeled is a task without an answer.
    """
    tasks: list[dict[str, Any]] = []
    for i, sample in enumerate(dataset, 1):
        before = f"images/{sample.split}/" if sample.split else "images/"
        name = writer.image(sample, before + sample.name)
        data = {"image": f"/data/local-files/?d={quote(name)}", **({"split": sample.split} if sample.split else {})}
        task: dict[str, Any] = {"id": i, "data": data, "annotations": []}
        if sample.objects is not None or sample.label is not None:
            size = size_for_writing(sample)
            result = [r for k, thing in enumerate(sample.objects or ()) for r in regions_of(thing, size, f"{i}_{k}")]
            if sample.label is not None:
                value = {"choices": [sample.label]}
                result.append({"from_name": "choice", "to_name": "image", "type": "choices", "value": value})
            task["annotations"].append({"result": result, "was_cancelled": False, "ground_truth": False})
        tasks.append(task)
    writer.path("images/x")
    writer.text(FILE, to_json(tasks) + "\n")
    writer.text(CONFIG, _config(dataset))


def _config(dataset: Dataset) -> str:
    """The interface that shows what was written: every control that any of it needs."""
    from xml.sax.saxutils import quoteattr

    names = [quoteattr(c.name) for c in dataset.categories]
    kinds = [("RectangleLabels", "Label"), ("PolygonLabels", "Label"), ("BrushLabels", "Label"), ("Choices", "Choice")]
    parts = ['<View>\n  <Image name="image" value="$image"/>\n']
    for control, item in kinds:
        name = "choice" if control == "Choices" else control.lower()
        held = "".join(f"    <{item} value={n}/>\n" for n in names)
        parts.append(f'  <{control} name="{name}" toName="image">\n{held}  </{control}>\n')
    return "".join([*parts, "</View>\n"])
