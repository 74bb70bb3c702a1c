"""Advice that no row follows: what cannot be run here, by name and with the reason, and what is told in plain words."""

UPGRADE = "there is no newer handful to install here; which package is meant is checked below"
DEMO = "the whole demo compiles for four runtimes, a minute of its own: tests/test_demo.py"
FETCHES = "fetches weights from their makers; the command is held to the parser"
SPOKEN_OF = "no advice: a rule, or the page in a bundle's folder, that names a command"
REPAIR = "a test does not install packages over those it runs with; their names are checked"
NPM = "needs npm and the package itself, 7 MB from the registry; --file is followed for a source of one file"
CLUSTER = "needs a Ray cluster that has died; --workers is followed in test_dream.py"
DATABASE = "needs a database server and a driver that is absent; the names of the packages are checked"

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
    "store.backend:_engine pip install": DATABASE,
    "store.mysql:_log_in pip install": DATABASE,
}

# told in plain words alone ("restore it", "rename it"), without an option or a command; new ones get a row
PLAIN: frozenset[str] = frozenset((
    "cli.last_resort:told please report", "cli.last_resort:told send", "curate.split:_renamed rename",
    "curate.split:samples make", "data.format_ade20k:read take", "data.format_fiftyone:_detection export",
    "data.format_visdrone:read convert", "data.format_voc:read name", "data.format_webdataset:_tell_passed write",
    "data.labelmaps:_translated_mask add", "data.masks:POINTERS run", "data.paths:walk mend",
    "data.video:__post_init__ replace", "detection.background:from_state teach", "detection.folder:load restore",
    "detection.folder:load teach", "detection.masks_head:fill restore", "detection.masks_head:fill restore #2",
    "detection.proposer_objectness:load reinstall", "detection.proposer_objectness:load reinstall #2",
    "detection.train_mask_head:_resume choose", "device.compile:_unchanged run", "device.lab.beside:told give",
    "device.runtimes.runtime_ncnn:compile use", "engine:choose use", "fewshot.classifier:load teach",
    "fewshot.nemo:load restore #2", "fewshot.nemo:load teach", "image:decode replace #2", "locks:one_writer wait",
    "lucid.farm:_lost_clip shrink", "lucid.farm:_room make", "lucid.farm:_same_versions install",
    "lucid.farm:farm choose", "lucid.source:opened leave", "lucid.torch_data:_index make",
    "lucid.torch_data:_index make #2", "models.count:count give", "models.encoder:__init__ go",
    "models.encoder:pretrained_encoder leave", "models.fetch:_state_dict get", "models.fetch:_taken get",
    "models.flow:_answer give", "models.flow:_run choose", "models.net_classifier:_timm go",
    "models.show:RULES leave", "models.show:make give", "models.tfjs:read_weights get",
    "models.tfjs:read_weights get #2", "places:check_writable choose #2", "store.backend:_engine choose",
    "store.backend:_engine look", "store.backend:_engine run", "store.backend:_waited try",
    "store.backend:_waited try #2", "store.database:_clear_away try", "store.dataset:_bad fix",
    "store.mysql:_said set", "store.revisions:reverse undo #2", "store.store:_revision change",
    "training.checkpoint:_read resume", "training.distributed:__init__ choose",
    "training.evaluate_segment:measured check", "training.loader_detect:gather check",
    "training.loader_segment:_checked repair", "training.loader_segment:gather check",
    "training.loader_segment:read make",
))  # fmt: skip
