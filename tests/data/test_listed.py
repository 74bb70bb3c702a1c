"""Every export in listed_sets.py is recognized, read rightly, and refused by name when something in it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handful.data import formats
from handful.data.finding import Finding
from tests.data.listed_sets import SETS, SIZE

QUIET = frozenset(("unlabeled_image", "turned_box"))


@pytest.mark.parametrize("name", SETS)
def test_an_export_is_read_rightly(name: str, tmp_path: Path) -> None:
    made = SETS[name]
    root = made.write(tmp_path / "set")
    (source,) = formats.sources(root)
    assert (source.format, source.place) == (made.format, root)
    told: list[Finding] = []
    dataset = source.read(told.append)
    samples = {(s.split, s.name): s for s in dataset}
    assert len(samples) == len(dataset) and samples.keys() == made.wanted.keys()
    for key, wanted in made.wanted.items():
        sample = samples[key]
        if wanted is None or isinstance(wanted, str):
            assert (sample.label, sample.objects) == (wanted, None), key
            continue
        assert sample.label is None and sample.objects is not None
        assert [thing.label for thing in sample.objects] == [label for label, _ in wanted], key
        for thing, (_, box) in zip(sample.objects, wanted, strict=True):
            assert thing.box_px is not None
            np.testing.assert_allclose(thing.box_px, box, rtol=0, atol=1e-5)
        assert sample.size_wh in (SIZE, None) and (sample.size_wh == SIZE or not wanted)
    assert {finding.code for finding in told} - QUIET == made.more, [f.text for f in told]
    used = {label for w in made.wanted.values() for label in ([w] if isinstance(w, str) else [n for n, _ in w or ()])}
    assert used <= {c.name for c in dataset.categories}
