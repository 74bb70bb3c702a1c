"""A taught classifier on either engine: the same answers, and what one has learned the other takes back exactly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handful import engine
from handful.data.sample_images import sample_photo
from handful.errors import DataError
from handful.fewshot import nemo as nemos
from handful.fewshot.classifier import FewShotClassifier
from handful.fewshot.nemo import Nemo
from handful.fewshot.teaching import teach
from handful.files import read_json, read_tensors, sha256, write_json, write_tensors
from handful.image import read_image
from tests.skips import need_runtime

ENGINES = ("onnxruntime", "torch")


@pytest.fixture(autouse=True)
def there() -> None:
    need_runtime("onnxruntime")


def on(name: str, folder: Path) -> FewShotClassifier:
    with engine.using(name):
        return FewShotClassifier.load(folder)


def test_both_engines_answer_alike(taught_model: Path) -> None:
    one, other = (on(name, taught_model) for name in ENGINES)
    for name in ("cat", "coffee", "rocket", "flower"):
        photo = sample_photo(name)
        np.testing.assert_allclose(one.scores(photo), other.scores(photo), atol=1e-4)
        assert one.recognize(photo).label == other.recognize(photo).label
    assert (one.net.engine, other.net.engine) == ENGINES


def test_the_users_number_of_threads_holds(taught_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    session = engine.onnx_session

    def noted(model: bytes, threads: int = 1) -> object:
        given.append(threads)
        return session(model, threads)

    monkeypatch.setattr(engine, "onnx_session", noted)
    for said in ("3", None):
        monkeypatch.delenv("OMP_NUM_THREADS") if said is None else monkeypatch.setenv("OMP_NUM_THREADS", said)
        on("onnxruntime", taught_model).scores(sample_photo("cat"))
    assert given == [3, 1]


def test_the_module_of_torch_says_the_same(taught_model: Path) -> None:
    import torch

    from handful.image import fit

    model = on("onnxruntime", taught_model)
    frame = fit(sample_photo("cat").rgb_u8, model.net.frame_hw)[None]
    with torch.inference_mode():
        want = model.network(torch.from_numpy(np.ascontiguousarray(frame))).numpy()[0]
    np.testing.assert_allclose(model.scores(sample_photo("cat")), want, atol=1e-4)
    model.forget("coffee")
    assert model.network.head.classify.out_features == 3  # cat, rocket, none of these


def sums(nemo: Nemo) -> tuple[bytes, bytes]:
    return b"".join(nemo._sum[name].tobytes() for name in nemo.classes), nemo._gram.tobytes()


@pytest.mark.parametrize(("teacher", "other"), [ENGINES, ENGINES[::-1]])
def test_what_one_engine_learned_the_other_unlearns(
    teacher: str, other: str, photo_folder: Callable[..., Path], tmp_path: Path
) -> None:
    photos = photo_folder(("cat", "coffee"), 2)
    with engine.using(teacher):
        teach(photos, tmp_path / "m", backbone="lite0", frame_hw=(96, 96))
        first = next(iter(sorted((photos / "cat").iterdir())))
        image = read_image(first)
        first.unlink()
        teach(photos, tmp_path / "never", backbone="lite0", frame_hw=(96, 96))
    model = on(other, tmp_path / "m")
    model.unlearn(image, "cat")
    assert sums(model.nemo) == sums(on(other, tmp_path / "never").nemo)
    with pytest.raises(DataError, match="never learned"):
        model.unlearn(image, "cat")


def test_a_folder_that_0_3_taught_on_torch_still_unlearns(photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    photos = photo_folder(("cat", "coffee"), 2)
    with engine.using("torch"):
        teach(photos, tmp_path / "m", backbone="lite0", frame_hw=(96, 96))
    state, about, meta = (tmp_path / "m" / name for name in (nemos.STATE, nemos.ABOUT, "handful.json"))
    write_tensors(state, {k: v for k, v in read_tensors(state).items() if not k.startswith("seen_low")})
    write_json(about, {**read_json(about), "sha256": sha256(state)}, own=True)
    told = read_json(meta)
    files = {**told["files"], nemos.STATE: sha256(state), nemos.ABOUT: sha256(about)}
    write_json(meta, {**told, "files": files}, own=True)
    model = on("auto", tmp_path / "m")
    for photo in sorted((photos / "cat").iterdir()):
        model.unlearn(read_image(photo), "cat")
    assert model.classes == ("coffee",) and model.nemo.counts == {"coffee": 2}


def test_a_broken_engine_is_told_once_and_the_work_is_done(
    taught_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    want = FewShotClassifier.load(taught_model).scores(sample_photo("cat"))
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime" / "__init__.py").write_text("raise OSError('libcuda.so.1: cannot open shared object')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(engine, "_told", set())
    for _ in range(2):
        model = FewShotClassifier.load(taught_model)
        np.testing.assert_allclose(model.scores(sample_photo("cat")), want, atol=1e-4)
        assert model.net.engine == "torch"
    assert capsys.readouterr().err.count("libcuda.so.1: cannot open shared object") == 1


def test_teaching_and_asking_load_no_pytorch(photo_folder: Callable[..., Path], tmp_path: Path) -> None:
    """It would take most of the seconds."""
    photos = photo_folder(("cat", "coffee"), 1)
    model = str(tmp_path / "m")
    code = (
        "import sys\nfrom handful.cli import main\n"
        f"for words in (['teach', {str(photos)!r}, '--out', {model!r}, '--frame', '64x64', '--backbone', 'lite0'],\n"
        f"              ['predict', {model!r}, {str(photos / 'cat' / '0.png')!r}],\n"
        f"              ['unlearn', {model!r}, {str(photos / 'cat' / '0.png')!r}, '--class', 'cat'],\n"
        f"              ['evaluate', {model!r}, {str(photos)!r}]):\n"
        "    try: main(words)\n"
        "    except SystemExit as stop: assert not stop.code, stop.code\n"
        "print(*sorted({'torch', 'timm', 'torchvision'} & set(sys.modules)), 'loaded')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["loaded"], done.stdout + done.stderr
