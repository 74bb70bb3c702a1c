"""Advice that no row follows: what cannot be run here, by name and with the reason."""

UPGRADE = "there is no newer handful to install here; which package is meant is checked below"
DEMO = "the whole demo compiles for four runtimes, a minute of its own: tests/test_demo.py"
FETCHES = "fetches weights from their makers; the command is held to the parser"
SPOKEN_OF = "no advice: a rule, or the page in a bundle's folder, that names a command"
REPAIR = "a test does not install packages over those it runs with; their names are checked"
NPM = "needs npm and the package itself, 7 MB from the registry; --file is followed for a source of one file"
CLUSTER = "needs a Ray cluster that has died; --workers is followed in test_dream.py"
OTHER = "there is no other version of handful to install here; a folder that goes on is followed in test_train.py"
COMPILES = "two compilations of a minute: tests/device/test_detector.py has the same network on both runtimes"

NOT_RUN: dict[str, str] = {
    "bundle:_manifest pip install": UPGRADE,
    "fewshot.nemo:load pip install": UPGRADE,
    "kinds.loading:load_bundle pip install": UPGRADE,
    "kinds.registry:kind_name pip install": UPGRADE,
    "models.folder:read_meta pip install": UPGRADE,
    "store.database:_revision pip install": UPGRADE,
    "demo:run handful demo": DEMO,
    "demo:sample_views --photos": DEMO,
    "demo:sample_views handful demo": DEMO,
    "detection.irene:best_proposer handful weights get": FETCHES,
    "device.manual:_with_handful pip install": SPOKEN_OF,
    "select.heatmap:RULE handful evaluate": SPOKEN_OF,
    "select.regimen:RULE handful evaluate": SPOKEN_OF,
    "engine:choose pip install": REPAIR,
    "engine:onnx_session pip install": REPAIR,
    "models.fetch:_packed --file": NPM,
    "models.fetch:_packed --file #2": NPM,
    "models.fetch:_packed --file #3": NPM,
    "parallel:INSTEAD --workers": CLUSTER,
    "training.checkpoint:_read resume": OTHER,
    "device.runtimes.runtime_ncnn:compile use": COMPILES,
}
