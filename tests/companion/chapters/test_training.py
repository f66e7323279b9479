"""Learning curves and accuracies beside the published ones."""

import pandas as pd
import pytest

from sftgan.companion.chapters import training


def curve(*dice):
    return pd.DataFrame({"epoch": range(len(dice)), "step": range(0, 10 * len(dice), 10), "dice": dice})


def test_the_goal_is_reached_between_two_measurements():
    curves = {"fast": curve(0.1, 0.8, 0.9, 0.2), "slow": curve(0.1, 0.3, 0.7, 0.8), "never": curve(0.1, 0.2)}
    found = training.first_to_reach(curves, "dice", 0.75).set_index("trained on")
    assert found.loc["fast", ["after epoch", "epoch", "epochs"]].tolist() == [0, 1, 3]
    assert found.loc["slow", ["after step", "step", "steps"]].tolist() == [20, 30, 30]
    assert pd.isna(found.loc["never", "epoch"]) and found.loc["never", "steps"] == 10


def row(after, at, end):
    return pd.Series({"after epoch": after, "epoch": at, "epochs": end})


def test_sooner_judges_only_what_both_curves_can_show():
    never = row(pd.NA, pd.NA, 6)
    assert training.sooner(row(1, 2, 6), row(2, 3, 6), "epoch") == "holds"
    assert training.sooner(row(1, 2, 6), never, "epoch") == "holds"
    assert training.sooner(row(3, 4, 6), row(0, 1, 6), "epoch") == "does not hold"
    assert training.sooner(never, row(2, 3, 6), "epoch") == "does not hold"
    assert training.sooner(row(2, 3, 6), row(2, 3, 6), "epoch") == "cannot be tested here"
    assert training.sooner(row(0, 57, 342), row(38, 57, 114), "epoch") == "cannot be tested here", (
        "too seldom"
    )
    assert training.sooner(row(4, 5, 6), row(pd.NA, pd.NA, 3), "epoch") == "cannot be tested here", (
        "too short"
    )
    assert training.sooner(never, never, "epoch") == "cannot be tested here"


def test_accuracies_are_judged_by_cnn_or_on_average():
    rows = [
        ("mnist", "vgg16", 0.99), ("mnist", "resnet50", 0.90),
        ("cifar10", "vgg16", 0.70), ("animals10", "vgg16", 0.80), ("cifar10", "resnet50", 0.97),
        ("animals10", "resnet50", 0.99),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["dataset", "arch", "accuracy"])
    frame = frame.assign(data=frame["dataset"].str.upper(), **{"test images": 500})
    strategies = {"mnist": "similar", "cifar10": "dissimilar", "animals10": "dissimilar"}
    found = training.accuracy_claims(frame, strategies)
    assert found["verdict"].tolist() == ["holds", "does not hold", "does not hold", "holds", "does not hold"]
    assert found["CNN"].tolist() == ["vgg16", "resnet50", "vgg16", "resnet50", "vgg16, resnet50"]
    assert found["images"].tolist() == [500, 500, 1000, 1000, 500]
    assert found["accuracy"].iloc[2] == pytest.approx(0.75) and found["published"].iloc[-1] == 0.95
    assert ((found["low"] < found["accuracy"]) & (found["accuracy"] < found["high"])).all()
