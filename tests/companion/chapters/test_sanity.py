"""The sanity checks, on nets that are known to pass and to fail."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sftgan import InputError
from sftgan.companion.chapters import sanity
from sftgan.companion.study.study import Study

RECIPE = {"optimiser": "adamw", "lr": 0.01, "epochs": 1}
MICRO = {
    "similar": {"mnist": {"source": "embedded", "train": 60, "test": 60}},
    "dissimilar": {"cifar10": {"source": "embedded", "train": 60, "test": 40}},
    "extra": [], "size": 16, "cnns": {"vgg16": RECIPE}, "gan_size": 16, "gan_width": 4, "gan_watched": 2,
    "gan_train": 8, "gan_test": 6, "gan_epochs": 1, "workers": 1,
}  # fmt: skip
CASES = [("mnist", "vgg16", "similar")]


def net():
    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)]
    return nn.Sequential(*parts).eval()


@pytest.mark.parametrize("n_layers, changed", [(1, {4}), (2, {4}), (3, {0, 4})])
def test_layers_forget_from_the_last_to_the_first(n_layers, changed):
    before, after, images = net(), net(), torch.rand(8, 3, 8, 8)
    sanity.randomise(after, n_layers, images, seed=7)
    for i in (0, 4):
        assert torch.equal(before[i].weight, after[i].weight) == (i not in changed)
    seen = after[0](images).mean((0, 2, 3)) if n_layers > 1 else before[1].running_mean
    assert torch.allclose(after[1].running_mean, seen, atol=1e-5)
    assert not any(module.training for module in after.modules())


def test_the_same_seed_forgets_in_the_same_way_and_leaves_the_generator_of_numbers_alone():
    one, two = net(), net()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for model in (one, two):
        sanity.randomise(model, 3, torch.ones(2, 3, 8, 8), seed=7)
    assert torch.equal(one[4].weight, two[4].weight) and torch.equal(torch.get_rng_state(), state)


def test_the_cascade_begins_with_the_trained_net():
    frame = sanity.cascade(Study("smoke", **MICRO), CASES, 2, 4)
    assert len(frame) == 3 * len(sanity.CASCADED) * 4 and sorted(frame["share"].unique()) == [0, 0.5, 1]
    start = frame[frame["share"] == 0]
    assert np.allclose(start["SSIM"], 1) and np.allclose(start.loc[~start["flat"], "Pearson"], 1)
    references = frame.filter(regex="^(other|luminance) ").assign(
        method=frame["method"], image=frame["image"]
    )
    assert len(references.drop_duplicates()) == len(start)  # of the trained CNN, at every step
    end = frame[frame["share"] == 1].groupby("method")["SSIM"].mean()
    assert (end[["Grad-CAM", "last CGMA", "mean of CGMAs"]] < 0.9).all()
    with pytest.raises(InputError, match="n_steps is 0"):
        sanity.cascade(Study("smoke", **MICRO), CASES, 0, 4)


def test_swaps_exchange_one_thing_at_a_time():
    frame = sanity.swaps(Study("smoke", **MICRO), CASES, 4)
    assert set(frame["swap"]) == set(sanity.SWAPS) and set(frame["method"]) == {"LSFT", "GSFT"}
    both = frame.groupby(["method", "swap"])[["with its own map", "with the other's map"]].mean()
    assert np.isfinite(both).all(axis=None) and (both.abs() <= 1).all(axis=None)


def test_the_picture_of_another_class_is_of_another_class():
    labels = torch.tensor([1, 1, 2, 1, 2])
    assert sanity._of_another_class(labels).tolist() == [2, 2, 3, 4, 0]
    with pytest.raises(InputError, match="of one class"):
        sanity._of_another_class(labels[:2])


def test_a_map_that_stays_as_it_was_does_not_pass():
    """Grad-CAM becomes noise; LSFT stays, whatever the CNN has forgotten."""
    rng, rows = np.random.default_rng(0), []
    for method in sanity.CASCADED:
        for image in range(20):
            kept = 0.95 if method == "LSFT" else 0.0
            rows.append([method, image, 1.0, kept + 0.01 * rng.normal(), 0.5 + 0.01 * rng.normal()])
            rows.append([method, image, 0.0, 1.0, 0.5])
    frame = pd.DataFrame(rows, columns=["method", "image", "share", "Spearman", "other Spearman"])
    found = sanity.judged(frame.assign(dataset="mnist", data="digits", arch="vgg16")).set_index("claim")
    assert found.loc["LSFT depends on what the CNN has learned", "verdict"] == "does not hold"
    assert found.loc["Grad-CAM depends on what the CNN has learned", "verdict"] == "holds"
    assert found.loc["Grad-CAM depends on what the CNN has learned", "difference"] == pytest.approx(
        0.5, abs=0.02
    )
