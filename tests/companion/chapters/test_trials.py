"""Trials by their frames: what they are about, and what is computed from them."""

import numpy as np
import pandas as pd
import pytest

from sftgan.companion.chapters import trials
from sftgan.companion.study.profile import SWITCHES, load_profile
from sftgan.companion.study.study import Study

RECIPE = {"optimiser": "adamw", "lr": 0.01, "epochs": 1}
MICRO = {
    "similar": {"mnist": {"source": "embedded", "train": 60, "test": 60}},
    "dissimilar": {"cifar10": {"source": "embedded", "train": 60, "test": 40}},
    "extra": [], "size": 16, "cnns": {"vgg16": RECIPE}, "gan_size": 16, "gan_width": 4, "gan_watched": 2,
    "trial": {"datasets": ["mnist"], "gan_train": 8, "gan_test": 5, "gan_epochs": 1}, "workers": 1,
}  # fmt: skip


@pytest.fixture
def study():
    return Study("smoke", **MICRO)


def test_every_difference_is_flipped_alone_and_all_at_once():
    assert list(trials.FLIPS)[1:-3] == [f"{name}: {value}" for name, (_, value) in SWITCHES.items()]
    for settings in (trials.LEAK, trials.FLIPS, trials.ADVERSARIAL, trials.CONDITIONING):
        assert not next(iter(settings.values())), "the first is the paper's"
        for switches in settings.values():
            load_profile("smoke", **switches)
    table = trials.switches().set_index("field")
    assert table.loc["target", ["paper", "released code"]].tolist() == ["last", "first"]


def test_the_yardsticks_are_the_same_and_the_targets_are_not(study):
    settings = {"as in the paper": {}, "target: first": {"target": "first"}, "all": {"variant": "released"}}
    frame = trials.run(study, settings)
    assert len(frame) == 3 * 4 * 5 and set(frame["method"]) == {
        "LSFT",
        "mean map",
        "linear",
        "linear (this CNN)",
    }
    assert np.isfinite(frame[["r", "squared error", "dice", "dice with the object"]]).all(axis=None)
    paper = frame[frame["setting"] == "as in the paper"]
    assert np.allclose(paper["r"], paper["r with Grad-CAM"])
    first = frame[frame["setting"] == "target: first"]
    assert not np.allclose(first["r"], first["r with Grad-CAM"])
    exact = paper[paper["method"] == "linear (this CNN)"]
    assert exact["r"].min() > 0.999, "VGG16's target is in its conditions"


def test_a_plain_net_has_as_many_parameters_and_steps(study):
    sizes = trials.sizes(study, {"SFT": {}, "plain": {"modulation": "concatenation"}}, ["lsft"])
    assert sizes["steps"].nunique() == 1
    assert sizes["parameters"].max() < 1.1 * sizes["parameters"].min()


def made(shifts: dict[str, float], n=20, mean_map=-0.3) -> pd.DataFrame:
    """r of LSFT in some settings, with a known shift for each, and of the mean map, with its own."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.3, 0.6, n)
    rows = [
        [setting, method, image, base[image] + by + 0.001 * rng.normal()]
        for setting, shift in shifts.items()
        for method, by in {"LSFT": shift, "linear": 0, "mean map": mean_map}.items()
        for image in range(n)
    ]
    frame = pd.DataFrame(rows, columns=["setting", "method", "image", "r"])
    return frame.assign(dataset="mnist", data="digits", arch="vgg16")


def test_what_is_judged_is_trained_with_every_seed(monkeypatch):
    tried = made({trials.PAPER: 0.0})
    monkeypatch.setattr(trials, "run", lambda study, settings: tried.assign(seed=study.seed, n=len(settings)))
    found = trials.run_replicates(Study("smoke", seed=4, seeds=3), trials.DECIDING)
    assert found["seed"].unique().tolist() == [4, 5, 6] and (found["n"] == 5).all()


def test_differences_are_paired_and_go_the_way_they_are_named():
    frame = made({"plain": 0.0, "better": 0.1, "worse": -0.1})
    found = trials.against(frame, "plain").set_index("comparison")
    assert found.loc["better − plain", "difference"] == pytest.approx(0.1, abs=0.005)
    assert found.loc["worse − plain", "verdict"] == "does not hold" and "p (Holm)" in found
    between = trials.between_methods(frame, "LSFT", "linear").set_index("setting")
    assert between.loc["better", "verdict"] == "holds" and between.loc["worse", "high"] < 0
    series = trials.judge_series(frame, [("better", "worse")], ["more helps"], "digits")
    assert series["claim"].tolist() == ["more helps"] and series["verdict"].tolist() == ["holds"]


def test_no_choice_is_judged_by_generators_that_have_learned_nothing():
    """They are no nearer to the target than the mean map, which is the same for every image."""
    frame = made({"better": 0.1, "worse": -0.1}, mean_map=0.2)
    series = trials.judge_series(frame, [("better", "worse")], ["more helps"], "digits")
    assert series["verdict"].tolist() == ["cannot be tested here"] and series["difference"].item() > 0.1


def test_the_published_outputs_are_those_that_were_measured():
    dice = trials.released_outputs().set_index("reading")
    assert (dice["n"] == 400).all()
    assert dice.loc["inverse of the colour map (nearest colour)", "dice"].startswith("0.910")
    assert dice.loc["control: luminance of the photograph", "dice"].startswith("0.882")
