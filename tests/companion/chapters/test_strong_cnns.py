"""What limits CNNs, what they mix up, and weak and strong ones side by side: on made frames and on a tiny study."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from statsmodels.stats.proportion import confint_proportions_2indep

from sftgan.companion.chapters import strong_cnns, training
from sftgan.companion.study.cache import cache_folder
from sftgan.companion.study.profile import load_profile
from sftgan.companion.study.study import Study
from sftgan.intervals import proportion_ci

RECIPE = {"optimiser": "adamw", "lr": 0.01, "epochs": 1}
STRONG = {
    "dataset": "cifar10", "arch": "efficientnet_lite0", "source": "embedded", "train": 30, "test": 40, "size": 64,
    "pretrained": True, "cnn": RECIPE | {"epochs": 0, "head_epochs": 2},
}  # fmt: skip
MICRO = {
    "similar": {"mnist": {"source": "embedded", "train": 60, "test": 60}},
    "dissimilar": {"cifar10": {"source": "embedded", "train": 40, "test": 40}},
    "extra": [STRONG], "size": 16, "cnns": {"vgg16": RECIPE}, "eta": 3, "gan_size": 16, "gan_width": 4,
    "gan_train": 12, "gan_test": 6, "gan_watched": 2, "gan_epochs": 1, "workers": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("strength")


@pytest.fixture(autouse=True)
def shared_cache(isolated, folder, monkeypatch):
    """One cache for this file."""
    monkeypatch.setenv("SFTGAN_CACHE", str(folder))


@pytest.fixture
def study():
    return Study("smoke", **MICRO)


def computed(title: str) -> int:
    """How often a stage has computed something of this title."""
    log = cache_folder() / "log.txt"
    return log.read_text().count(f" {title}: ") if log.exists() else 0


def test_either_curve_has_the_studys_own_cnn_and_nothing_is_fitted_twice(study):
    (own,) = study.classifiers([("cifar10", "vgg16")]).values()
    found = training.limits(study, "cifar10", "vgg16", [0.125, 0.25], [0.5, 1])
    assert computed("_classifier vgg16 on cifar10") == 3, "its own, a wider one, and one of half the images"
    assert found["varied"].tolist() == ["width"] * 2 + ["training images"] * 2
    assert found["width"].tolist() == [0.125, 0.25, 0.125, 0.125]
    assert found["training images"].tolist() == [40, 40, 20, 40]
    assert found["accuracy"][0] == found["accuracy"][3] == own.test_accuracy
    assert found["parameters"][1] > 3 * found["parameters"][0] and found["parameters"][2:].nunique() == 1
    assert (found["test images"] == 40).all() and (found["chance"] == 0.1).all()
    (strong,) = study.classifiers([("cifar10", "efficientnet_lite0")]).values()
    assert (found["reference"] == strong.test_accuracy).all()
    assert [tuple(row) for row in found[["low", "high"]].to_numpy()] == [
        proportion_ci(share, 40) for share in found["accuracy"]
    ]


def test_fewer_training_images_change_neither_the_test_images_nor_the_number_of_steps(study):
    other = training._with_share(study, "mnist", "vgg16", 0.5)
    before, after = study.image_data("mnist"), other.image_data("mnist")
    assert len(after.train) == 30 and torch.equal(before.test.images, after.test.images)
    assert torch.equal(before.test.labels, after.test.labels)
    assert other.profile.cnns["vgg16"].epochs == 2 and other.labels() == study.labels()
    assert other.image_data("cifar10").train.images.equal(study.image_data("cifar10").train.images)
    drawn = Study("smoke", **MICRO | {"dissimilar": {"cifar10": {"source": "embedded", "train": 40}}})
    half = training._with_share(drawn, "cifar10", "vgg16", 0.5)
    assert torch.equal(drawn.image_data("cifar10").test.images, half.image_data("cifar10").test.images)


def test_which_widths():
    assert training.widths(load_profile("cpu")) == [0.0625, 0.125, 0.25]
    assert training.widths(load_profile("cpu", cnn_width=1)) == [0.5, 1]
    assert training.widths(load_profile("paper")) == [1], "ImageNet weights come in one width"


def made(accuracies: dict[str, list[float]], n=400) -> pd.DataFrame:
    """A frame like that of `limits`; each series doubles what it varies."""
    rows = [
        {"data": "D", "dataset": "d", "arch": "net", "varied": varied, "width": 0.25, "training images": 100,
         varied: 2**k, "accuracy": accuracy, "low": proportion_ci(accuracy, n)[0],
         "high": proportion_ci(accuracy, n)[1], "chance": 0.1, "reference": 0.9}
        for varied, series in accuracies.items()
        for k, accuracy in enumerate(series)
    ]  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_the_last_step_tells_what_still_helps():
    found = training.last_step(made({"width": [0.3, 0.6, 0.6], "training images": [0.3, 0.4, 0.6]}))
    found = found.set_index("claim")
    assert found.loc["accuracy still rises with width", "verdict"] == "depends"
    more = found.loc["accuracy still rises with training images"]
    assert more["verdict"] == "holds" and (more["from"], more["to"]) == (2, 4)
    expected = confint_proportions_2indep(240, 400, 160, 400, method="newcomb", compare="diff")
    np.testing.assert_allclose(more[["low", "high"]].astype(float), expected, atol=1e-6)
    narrow = training.last_step(made({"width": [0.3, 0.6], "training images": [0.5]}))
    shown = training.shown_step(narrow.assign(**{"from": 0.125, "to": 1500.0}))
    assert shown[["from", "to"]].iloc[0].tolist() == ["0.125", "1500"] and shown["gained"][0].startswith(
        "0.300"
    )
    assert training.last_step(made({"width": [0.5]})).empty, "a single fit has no step"


def test_the_figure_has_a_panel_for_each_curve_with_its_lines():
    figure = training.figure(made({"width": [0.3, 0.6], "training images": [0.4, 0.5, 0.6]}))
    left, right = figure.axes
    assert [t.get_text() for t in right.get_xticklabels()] == ["1", "2", "4"]
    assert left.get_lines()[0].get_ydata().tolist() == [0.3, 0.6], "in the order of what is varied"
    assert {line.get_ydata()[0] for line in left.get_lines()[1:]} == {0.1, 0.9}
    without = made({"width": [0.3, 0.6], "training images": [0.4]}).assign(reference=np.nan)
    names = [text.get_text() for text in training.figure(without).legends[0].get_texts()]
    assert names == ["this CNN", "guessing"]


def test_the_classes_that_are_mixed_up_count_in_both_directions():
    confusion = torch.tensor([[8, 2, 0], [3, 6, 1], [0, 0, 10]])
    fitted = {("d", "net"): confusion, ("d", "perfect"): torch.diag(torch.tensor([5, 5, 5]))}
    stub = SimpleNamespace(
        classifiers=lambda pairs: {pair: SimpleNamespace(confusion=fitted[pair]) for pair in pairs},
        image_data=lambda dataset, arch: SimpleNamespace(classes=("I", "L", "M")),
        labels=lambda: {"d": "D"},
    )
    net, perfect = training.mixed_up(stub, list(fitted)).to_dict("records")
    assert (net["most confused"], net["of these"], net["errors"]) == ("I with L", 5, 6)
    assert net["share of the errors"] == pytest.approx(5 / 6)
    assert net["accuracy"] == pytest.approx(24 / 30)
    assert net["accuracy without these"] == pytest.approx(29 / 30)
    assert perfect["most confused"] == "none" and np.isnan(perfect["share of the errors"])
    assert perfect["accuracy without these"] == 1


def test_weak_and_strong_cnns_of_the_profiles():
    smoke = strong_cnns.kinds(Study("smoke"))
    assert list(smoke) == [
        ("animals10", a) for a in ("vgg16", "resnet50", "mobilenet_v2", "efficientnet_lite0")
    ]
    assert list(smoke.values()) == ["thin"] * 3 + ["ImageNet weights"]
    cpu = strong_cnns.kinds(Study("cpu"))
    strong = [dataset for (dataset, _), kind in cpu.items() if kind == "ImageNet weights"]
    assert set(strong) == {"cifar10", "animals10", "food11", "cats_vs_dogs", "instruments"}
    assert all((name, "thin") in {(pair[0], kind) for pair, kind in cpu.items()} for name in strong)
    assert strong_cnns.kinds(Study("paper")) == {}, "all have ImageNet weights there"


def test_weak_and_strong_cnns_are_measured_alike(study):
    measured = strong_cnns.side_by_side(study)
    assert not measured.duplicated(["dataset", "arch", "method", "image"]).any()
    itself = measured[measured["method"] == "Grad-CAM"]
    assert (itself["dice"] == 1).all() and len(itself) == 2 * 6
    assert (itself["r"].round(6).isin([0, 1])).all(), "an empty map is like nothing"
    table = strong_cnns.table(study, measured)
    assert table["kind"].tolist() == ["thin", "ImageNet weights"]
    assert table["seen by the GANs"].tolist() == ["yes", "no"]
    for (pair, _), text in zip(strong_cnns.kinds(study).items(), table["accuracy"], strict=True):
        assert text.startswith(f"{study.classifiers([pair])[pair].test_accuracy:.2f}")
    lsft = measured[measured["method"] == "LSFT"].groupby("kind")["r"].mean()
    for kind, text in zip(table["kind"], table["r: LSFT"], strict=True):
        assert text.startswith(f"{lsft[kind]:.2f}")
    columns = [f"average drop, %: {method}" for method in ("LSFT", "Grad-CAM", "mean map")]
    assert list(table)[-3:] == columns and table[columns].notna().all(axis=None)
    judged = strong_cnns.against_controls(measured)
    assert judged["measure"].tolist() == ["r"] * 2 + ["balance"] * 2
    assert judged["better than every control"].isin(["yes", "no", "undecided"]).all()
    made_up = judged.assign(**{"better than every control": ["yes", "no", "no", "yes"]})
    assert strong_cnns.wins(made_up) == {"thin": "1 of 1", "ImageNet weights": "0 of 1"}


def test_the_gallery_shows_what_each_cnn_sees_and_says(study):
    (row,), (title,), (texts,) = strong_cnns.gallery(study)
    assert title == f"{study.labels()['cifar10']}\nvgg16\nefficientnet_lite0"
    assert [tuple(picture.shape) for picture in row] == [
        (3, 16, 16),
        *[(16, 16)] * 2,
        (3, 64, 64),
        *[(16, 16)] * 2,
    ]
    for pair, k in (("cifar10", "vgg16"), 0), (("cifar10", "efficientnet_lite0"), 3):
        explained = study.explained_images(*pair, "test")
        (i,) = [n for n, target in enumerate(explained.examples.targets) if torch.equal(target, row[k + 1])]
        assert torch.equal(row[k + 2], study.maps(*pair, "dissimilar")["LSFT"][i])
        names = study.image_data(*pair).classes
        right = bool(explained.predictions[i] == explained.labels[i])
        assert texts[k] == names[explained.labels[i]] and names[explained.predictions[i]] in texts[k + 1]
        assert texts[k + 1].endswith("right" if right else "wrong") and texts[k + 2].startswith("r ")
