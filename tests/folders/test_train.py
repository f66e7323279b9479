"""A generator trained on one's own pictures: what it is given, its checkpoint, and the numbers said of it."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sftgan import Explainer, InputError, files, metrics, pictures
from sftgan.cams.conditions import ConditionSpec
from sftgan.cnns.loading import CNN
from sftgan.controls import linear_fit, linear_map
from sftgan.folders import train as train_folder
from sftgan.gan import training
from sftgan.gan.examples import explain_images
from sftgan.gan.training import GANRecipe

RECIPE = GANRecipe("lsft", eta=3, width=2, epochs=2, batch=4)


def cnn(seed: int = 0) -> CNN:
    torch.manual_seed(seed)
    convs = [layer for k in range(4) for layer in (nn.Conv2d(3 if k == 0 else 4, 4, 3, padding=1), nn.ReLU())]
    net = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    return CNN(net, "net.py:make", "made", 24)


@pytest.fixture
def folder(tmp_path):
    for k in range(10):
        path = tmp_path / "photos" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (24, 24, 3), np.uint8)).save(path)
    return tmp_path / "photos"


def prepare(folder, **options):
    return train_folder.prepare(
        folder, cnn(), folder.parent / "mine.safetensors", RECIPE, **{"map_size": 16} | options
    )


def test_the_examples_are_those_of_the_pictures_split_once(folder):
    prepared = prepare(folder, held_out=0.3, batch=4)
    seen = pictures.stacked([pictures.read(path, 24) for path in pictures.pictures_in(folder)])
    expected = explain_images(cnn().model, seen, 16, ConditionSpec(3))[0]
    both = torch.cat([prepared.train.targets, prepared.held_out.targets])
    assert (len(prepared.train), len(prepared.held_out)) == (7, 3) and both.shape == (10, 16, 16)
    order = [int((expected.targets - one).abs().flatten(1).amax(1).argmin()) for one in both]
    assert sorted(order) == list(range(10)), "each picture once"
    for part in ("images", "conditions", "targets"):
        given = torch.cat([getattr(prepared.train, part), getattr(prepared.held_out, part)])
        assert torch.allclose(given, getattr(expected, part)[order], atol=1e-6)
    assert (
        "7 pictures to train on, 3 held out" in prepared.summary()
        and str(prepared.checkpoint) in prepared.summary()
    )


def test_the_checkpoint_goes_with_what_it_depends_on(folder):
    first = prepare(folder).checkpoint
    out = folder.parent / "mine.safetensors"
    assert first.parent == folder.parent and first == prepare(folder, batch=3).checkpoint
    longer = train_folder.prepare(folder, cnn(), out, replace(RECIPE, epochs=9), 16).checkpoint
    others = {
        train_folder.prepare(folder, cnn(1), out, RECIPE, 16).checkpoint,
        train_folder.prepare(folder, cnn(), out, replace(RECIPE, kind="gsft"), 16).checkpoint,
        prepare(folder, seed=1).checkpoint,
        prepare(folder, size=32).checkpoint,
        prepare(folder, map_size=17).checkpoint,
        prepare(folder, held_out=0.4).checkpoint,
    }
    (folder / "a" / "0.png").unlink()
    others.add(prepare(folder).checkpoint)
    assert longer == first and len(others) == 7 and first not in others


def test_the_numbers_are_those_of_the_maps_held_out(folder):
    prepared = prepare(folder, held_out=0.4)
    judged = train_folder.train(prepared, RECIPE)
    test, train = prepared.held_out, prepared.train
    maps = {
        "generator": training.generate(judged.explainer.generator, test),
        "mean map": train.targets.mean(0).expand(4, -1, -1),
        "linear fit": linear_map(linear_fit([train]), test),
    }
    for name, drawn in maps.items():
        dice = metrics.dice(metrics.binarise(drawn), metrics.binarise(test.targets))
        assert judged.agreement[name]["Dice"][0] == pytest.approx(dice.mean().item())
        mean, low, high = judged.agreement[name]["correlation"]
        assert (
            mean == pytest.approx(metrics.correlation(drawn, test.targets).mean().item())
            and low <= mean <= high
        )
    lines = judged.report().splitlines()
    assert "held-out pictures (4)" in lines[0] and [line.split("  ")[1] for line in lines[1:]] == list(maps)
    assert len(judged.losses) == 2 and judged.losses[1]["reconstruction"] > 0
    assert judged.losses_by_epoch().splitlines()[-1].split()[0] == "2"
    assert judged.explainer.size == 16


def test_a_saved_generator_draws_the_same_maps(folder, tmp_path):
    judged = train_folder.train(prepare(folder), RECIPE)
    judged.explainer.save(
        tmp_path / "mine.safetensors", train_folder.about(judged, prepare(folder), cnn(), RECIPE, 0)
    )
    images = pictures.stacked([pictures.read(path, 24) for path in pictures.pictures_in(folder)[:2]])
    again = Explainer.load(tmp_path / "mine.safetensors")
    assert torch.equal(again(cnn().model, images), judged.explainer(cnn().model, images)) and again.size == 16


def test_what_is_said_of_a_run_that_had_more_epochs_before(folder):
    """Its checkpoint is taken, and it is not shortened."""
    prepared, fewer = prepare(folder), replace(RECIPE, epochs=1)
    train_folder.train(prepared, RECIPE)
    judged = train_folder.train(prepared, fewer)
    assert train_folder.about(judged, prepared, cnn(), fewer, 0)["training"] == "2 epochs, seed 0"


def test_a_killed_run_goes_on_to_the_same_weights(folder, monkeypatch):
    prepared = prepare(folder)
    whole = train_folder.train(prepared, RECIPE).explainer.generator.state_dict()
    shutil.move(prepared.checkpoint, folder.parent / "kept")
    real, saved = files.save_checkpoint, []

    def killed(path, state):
        real(path, state)
        saved.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        train_folder.train(prepared, RECIPE)
    monkeypatch.setattr(training, "save_checkpoint", real)
    again = train_folder.train(prepare(folder), RECIPE)
    assert saved == [prepared.checkpoint] and len(again.losses) == 2
    assert all(
        torch.equal(value, whole[name]) for name, value in again.explainer.generator.state_dict().items()
    )


def test_unreadable_pictures_are_left_out_and_told_of(folder, capsys):
    (folder / "a" / "0.png").write_text("hello")
    prepared = prepare(folder)
    assert len(prepared.train) + len(prepared.held_out) == 9
    assert "a/0.png cannot be read" in capsys.readouterr().err


def test_one_held_out_picture_has_no_interval(folder):
    report = train_folder.train(prepare(folder, held_out=0.01), RECIPE).report()
    assert "held-out pictures (1)" in report and "[" not in report and "nan" not in report


@pytest.mark.parametrize(
    "out, recipe, sentence",
    [
        ("mine.pt", {}, r"let its name end in \.safetensors"),
        ("file/mine.safetensors", {}, "nothing can be written"),
        ("mine.safetensors", {"kind": "lsfd"}, "unknown generator 'lsfd': did you mean 'lsft'"),
        ("mine.safetensors", {"eta": 5}, "eta is 5, but the net has 4 convolutions"),
    ],
)
def test_what_cannot_be_trained_is_refused_before(folder, out, recipe, sentence):
    (folder.parent / "file").write_text("")
    with pytest.raises(InputError, match=sentence):
        train_folder.prepare(folder, cnn(), folder.parent / out, replace(RECIPE, **recipe), 16)


def test_one_picture_is_too_few(folder):
    for path in pictures.pictures_in(folder)[1:]:
        path.unlink()
    with pytest.raises(InputError, match="has fewer than 2 readable pictures"):
        prepare(folder)
