"""Names in pictures can be read, whatever letters they have and whichever fonts are installed."""

from __future__ import annotations

import numpy as np
import pytest

from handful import plotting
from handful.plotting import Drawn, boxed, captioned, lettered


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
