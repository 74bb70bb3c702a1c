"""Names in pictures can be read, whatever letters they have and whichever fonts are installed."""

from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from handful import plotting
from handful.evaluation import Evaluation
from handful.plotting import Drawn, boxed, captioned, lettered, readable
from handful.training import transfer


def test_a_letter_that_pillows_font_lacks_is_taken_from_another() -> None:
    text, font = lettered("groß Café", 16)
    assert text == "groß Café"
    pictures = [bytes(font.getmask(letter)) for letter in "gß\uffff"]
    assert len(set(pictures)) == 3  # not the box of a letter that is not there
    assert lettered("cup", 16)[1].getname()[0] == "Aileron"  # plain names look as they did


def test_letters_that_no_font_has_are_written_as_code_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plotting, "_fonts", lambda: [""])
    assert lettered("红 cup", 16)[0] == "<U+7EA2> cup"
    names = ("红细胞", "白细胞")
    flat = np.zeros((80, 400, 3), np.uint8)
    first, second = (boxed(flat, [Drawn((10.0, 40.0, 60.0, 70.0), name, (200, 0, 0))]) for name in names)
    assert (first != second).any()  # two rows of empty boxes would be one picture
    first, second = (captioned(flat, [(name, (200, 0, 0))]) for name in names)
    assert (first != second).any()


def bars(*names: str) -> np.ndarray:
    rows = {name: {"accuracy": 0.5} for name in names}
    return Evaluation("classify", {"accuracy": 0.5}, rows, {}, 4, {}).plot()


def test_figures_say_any_class_name_without_a_warning(tmp_path: Path) -> None:
    """Letters without a font, a byte that is no Unicode, and dollars, which are no mathematics."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = bars("\u7ea2\u7ec6\u80de", "Кот"), bars("\u767d\u7ec6\u80de", "Кот")
        assert first.shape != second.shape or (first != second).any()  # boxes would be one picture
        for name in ("$x_{$", r"$\nothing$ $", "caf\udce9", "cat \U0001f600"):
            bars(name)
            transfer.draw([], tmp_path / "flow.png", old=name, new="m")


def test_a_figure_takes_a_font_that_has_the_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    serif = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSerif.ttf")
    monkeypatch.setattr(plotting, "_fonts", lambda: ["", serif])
    axes = Figure().subplots()
    words = readable(axes.text(0, 0, "Кот", fontsize=9, weight="bold"))
    assert words.get_fontproperties().get_file() == serif and words.get_fontsize() == 9
    words = readable(axes.text(0, 0, "\u7ea2 $5"))
    assert words.get_text() == "<U+7EA2> $5" and not words.get_parse_math()
    assert readable(axes.text(0, 0, "cup")).get_fontproperties().get_file() is None
