"""ONNX Runtime where it is installed and works, else PyTorch, told once; who names one gets that one or an error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from handful import engine
from handful.errors import DeviceError, MissingPackage, UnknownName
from handful.progress import Event, Warned, listening


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(engine, "_told", set())
    monkeypatch.setattr(engine, "warn", told.append)
    return told


def broken() -> str:
    raise DeviceError("onnxruntime is broken; mend it")


@pytest.mark.parametrize(
    ("name", "installed", "works", "wanted"),
    [
        ("auto", ["onnxruntime", "torch"], True, "onnxruntime"),
        ("auto", ["torch"], True, "torch"),
        ("auto", ["onnxruntime", "torch"], False, "torch"),
        ("auto", ["onnxruntime"], False, "onnxruntime is broken"),
        ("onnxruntime", ["onnxruntime", "torch"], False, "onnxruntime is broken"),
        ("torch", ["onnxruntime", "torch"], True, "torch"),
    ],
)
def test_which_engine_it_is(
    name: str, installed: list[str], works: bool, wanted: str, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    monkeypatch.setattr(engine, "present", installed.__contains__)
    for _ in range(2):
        try:
            found = engine.choose(name, (lambda: "onnxruntime") if works else broken, lambda: "torch", "lite0")
        except DeviceError as error:
            found = str(error)
        assert found.startswith(wanted)
    assert warned == (
        ["onnxruntime is broken; mend it; PyTorch is used instead, which is slower"]
        if not works and wanted == "torch" else []
    )  # fmt: skip


def test_a_network_without_a_form_for_it_runs_on_pytorch(warned: list[str]) -> None:
    assert engine.choose("auto", None, lambda: "torch", "timm:x") == "torch" and not warned
    with pytest.raises(DeviceError, match="timm:x does not run on onnxruntime here; wanted lite0, lite1 or lite2"):
        engine.choose("onnxruntime", None, lambda: "torch", "timm:x")


def test_without_any_engine_both_cures_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> str:
        raise MissingPackage("torch cannot be imported; run: pip install 'handful[teach]'")

    monkeypatch.setattr(engine, "present", lambda name: False)
    with pytest.raises(MissingPackage, match=r"handful\[teach\].*handful\[onnxruntime\]"):
        engine.choose("auto", lambda: "", absent, "lite0")


def test_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(engine.VARIABLE, raising=False)
    assert engine.wanted() == "auto"
    monkeypatch.setenv(engine.VARIABLE, "torch")
    with engine.using("onnxruntime"):
        assert engine.wanted() == "onnxruntime"
        with engine.using(None):
            assert engine.wanted() == "onnxruntime"
    assert engine.wanted() == "torch"
    monkeypatch.setenv(engine.VARIABLE, "onnx")
    with pytest.raises(UnknownName, match="no engine named 'onnx'; there is auto, onnxruntime, torch"):
        engine.wanted()
    with pytest.raises(UnknownName), engine.using("tensorrt"):
        pass


def test_a_build_that_cannot_be_imported_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a build for a GPU is without its driver."""
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise ImportError('libcudart.so.12:\\n cannot open')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(DeviceError, match=r"libcudart.so.12: cannot open\).*force-reinstall onnxruntime") as caught:
        engine.onnx_session(b"")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_model_are_told() -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(DeviceError, match="onnxruntime cannot load the network"):
        engine.onnx_session(b"no model")


def test_the_fallback_is_told_to_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_told", set())
    monkeypatch.setattr(engine, "present", lambda name: True)
    events: list[Event] = []
    with listening(events.append):
        engine.choose("auto", broken, lambda: "torch", "lite0")
    assert [type(event) for event in events] == [Warned]
