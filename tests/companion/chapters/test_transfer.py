"""Pretrained generators elsewhere: crops, maps, controls and measures, each against what is known of it."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from sftgan import Explainer, Generator, InputError, metrics, pictures
from sftgan.cams.conditions import ConditionSpec
from sftgan.companion.chapters import transfer
from sftgan.companion.report import statistics
from sftgan.gan import weights
from sftgan.gan.examples import Examples
from tests.cams.any_cnn import pictures as random_pictures
from tests.cams.any_cnn import plain

NAMES = ["chelsea", "coffee", "rocket"]


@pytest.fixture(scope="module")
def explainers():
    torch.manual_seed(0)
    return {
        kind: Explainer(Generator(kind, eta=3, width=4), ConditionSpec(3), size=16)
        for kind in ("lsft", "gsft")
    }


def test_the_first_crop_is_the_central_square_and_the_others_are_drawn_by_the_seed():
    found, again, other = (transfer.crops(NAMES, 3, 32, seed) for seed in (0, 0, 1))
    assert found.images.shape == (9, 3, 32, 32) and found.first.tolist() == [0, 3, 6]
    assert found.owners.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and found.names == tuple(NAMES)
    assert torch.equal(found.images, again.images)
    same = (found.images == other.images).flatten(1).all(1)
    assert same.tolist() == 3 * [True, False, False]
    assert not torch.equal(found.images[1], found.images[2])
    for name, image in zip(NAMES, found.images[found.first], strict=True):
        (path,) = transfer._FOLDER.glob(f"{name}.*")
        expected = torch.from_numpy(pictures.read(path, 32).seen).float() / 255
        assert torch.equal(image, expected)


def test_crops_lie_in_the_photograph():
    rng = np.random.default_rng(0)
    first, *others = transfer._boxes(60, 40, 300, rng)
    assert first == (10, 0, 50, 40)
    lefts, uppers, rights, lowers = zip(*others, strict=True)
    assert {r - left for left, r in zip(lefts, rights, strict=True)} == {30}
    assert (min(lefts), max(rights), min(uppers), max(lowers)) == (0, 60, 0, 40)


@pytest.mark.parametrize(
    "names, n, sentence",
    [
        ("chelsea", 1, "'chelsea': give a list of at least two different names"),
        (["chelsea"], 1, "at least two different names"),
        (["chelsea", "chelsea", "coffee"], 1, "at least two different names"),
        (["chelsea", "cofee"], 1, "unknown photograph 'cofee': did you mean 'coffee'"),
        (NAMES, 0, "n_crops is 0: give a whole number of at least 1"),
    ],
)
def test_crops_that_cannot_be_made_are_said_in_a_sentence(names, n, sentence):
    with pytest.raises(InputError, match=sentence):
        transfer.crops(names, n, 32)


@pytest.mark.parametrize("shape, targets", [((24, 24), None), ((24, 48), [2, 0, 1, 3, 1, 0, 2, 2, 1])])
def test_maps_are_those_of_the_explainer(explainers, shape, targets):
    model, images = plain(torch.float32), random_pictures(9, *shape, dtype=torch.float32)
    targets = None if targets is None else torch.tensor(targets)
    shown, logits = transfer.seen(model, images, explainers, targets)
    maps = transfer.drawn(shown, explainers)
    for name, explainer in explainers.items():
        torch.testing.assert_close(
            metrics.resized(maps[name], shape), explainer(model, images, targets), atol=2e-6, rtol=0
        )
    torch.testing.assert_close(logits, model(images))
    assert shown.targets.shape == (9, 16, 16 * shape[1] // shape[0])
    assert maps["Grad-CAM"] is shown.targets and list(maps)[3:] == list(transfer.FREE_CONTROLS)
    (centre,) = maps["centre"].unique(dim=0)
    torch.testing.assert_close(centre, centre.flip(0, 1))
    quarter = centre[:8, : centre.shape[1] // 2]
    assert (quarter.diff(dim=0) > 0).all() and (quarter.diff(dim=1) > 0).all()


def test_explainers_that_see_different_things_are_refused(explainers):
    others = explainers | {"larger": Explainer(explainers["lsft"].generator, ConditionSpec(3), size=24)}
    with pytest.raises(InputError, match="differ in their spec or size"):
        transfer.seen(plain(torch.float32), random_pictures(2, 24, dtype=torch.float32), others)


def test_no_photograph_helps_to_fit_its_own_controls():
    rng = torch.Generator().manual_seed(0)
    conditions = torch.rand(6, 3, 8, 8, generator=rng)
    weights_of = torch.tensor([0.2, 0.3, 0.4])
    shown = Examples(
        torch.rand(6, 3, 8, 8, generator=rng), conditions, torch.einsum("nchw,c->nhw", conditions, weights_of)
    )
    owners = torch.tensor([0, 0, 1, 1, 2, 2])
    maps = transfer.from_others(shown, owners)
    torch.testing.assert_close(maps["linear (this CNN)"], shown.targets, atol=1e-5, rtol=0)
    torch.testing.assert_close(maps["mean map"][3], shown.targets[[0, 1, 4, 5]].mean(0))
    spoilt = Examples(shown.images, conditions, shown.targets.clone())
    spoilt.targets[2:4] = 0.5
    after = transfer.from_others(spoilt, owners)
    for name, drawn in after.items():
        same = (drawn == maps[name]).flatten(1).all(1)
        assert same.tolist() == [False, False, True, True, False, False], name


class LeftOrRight(nn.Module):
    """Class 0 is the brightness of the left half, class 1 that of the right one."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, images):
        halves = images.unflatten(3, (2, -1)).mean((1, 2, 4))
        return self.scale * halves


def test_measures_are_those_that_a_hand_computes():
    images = torch.ones(4, 3, 8, 8)
    images[..., 4:] = 0.5
    of = transfer.Crops(images, torch.tensor([0, 0, 1, 1]), ("one", "two"))
    left = (torch.arange(8) < 4).float().expand(4, 8, 8)
    maps = {"Grad-CAM": left, "right": 1 - left, "half": torch.cat([left[:1], 1 - left[:1], left[2:]])}
    model, zeros = LeftOrRight(), torch.zeros(4, dtype=torch.long)
    found = transfer.measured(model, of, zeros, maps).set_index(["method", "photograph"])
    whole, right = (torch.tensor(x).sigmoid().item() for x in (4 * (1 - 0.5), 4 * -0.5))
    assert len(found) == 6
    for photograph in of.names:
        expected = {"r": 1, "bright": 1, "dark": right / whole, "margin": 1 - right / whole}
        assert found.loc["Grad-CAM", photograph][list(expected)].to_dict() == pytest.approx(expected)
        assert found.loc["right", photograph]["margin"] == pytest.approx(right / whole - 1)
        assert found.loc["right", photograph]["r"] == pytest.approx(-1)
    assert found.loc["half", "one"]["margin"] == pytest.approx(0)
    assert found.loc["half", "one"]["r"] == pytest.approx(0)
    assert found.loc["half", "two"]["r"] == pytest.approx(1)
    compared = statistics.differences(found.reset_index(), "margin", "Grad-CAM", ["right"])
    assert compared["n"].item() == 2 and compared["verdict"].item() == "holds"


def test_collages_have_each_photograph_beside_the_next_one_of_another_class():
    of = transfer.crops(NAMES, 2, 16)
    images, classes = transfer.collages(of, torch.tensor([5, 0, 5, 0, 7, 0]))
    assert classes.tolist() == [[5, 7], [7, 5]]
    assert torch.equal(images[0], torch.cat([of.images[2], of.images[4]], dim=-1))
    assert torch.equal(images[1], torch.cat([of.images[4], of.images[0]], dim=-1))
    with pytest.raises(InputError, match="the same class for all photographs"):
        transfer.collages(of, torch.full((6,), 3))


def test_a_map_that_follows_the_class_is_told_from_one_that_does_not():
    left = (torch.arange(8) < 4).float().expand(2, 4, 8)
    follows, stays, empty = (left, 1 - left), (left, left), (0 * left, 0 * left)
    three = (0.25 + 0.5 * left, 0.75 - 0.5 * left)
    both = {"follows": follows, "stays": stays, "empty": empty, "a little": three}
    found = transfer.class_sensitivity(*({name: maps[k] for name, maps in both.items()} for k in (0, 1)))
    told = found.groupby("method")["told"].mean().to_dict()
    assert told == pytest.approx({"follows": 1, "stays": 0, "empty": 0, "a little": 0.5})
    alike = found.groupby("method")["alike"].mean().to_dict()
    assert alike == pytest.approx({"follows": -1, "stays": 1, "empty": 0, "a little": -1})


def test_the_packaged_generators_by_kind_and_strategy(tmp_path, monkeypatch):
    sums = ""
    for k, name in enumerate(weights.PRETRAINED):
        torch.manual_seed(k)
        path = tmp_path / f"{name}.safetensors"
        weights.save(
            path, Generator(name[:4], eta=3, width=4), ConditionSpec(3), 16 + k, {"data": f"set {k}"}
        )
        sums += f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
    (tmp_path / "SHA256SUMS").write_text(sums)
    monkeypatch.setattr(weights, "_FOLDER", tmp_path)
    found, about = transfer.explainers()
    assert list(found) == ["LSFT, similar", "GSFT, similar", "LSFT, dissimilar", "GSFT, dissimilar"]
    assert [one.generator.kind for one in found.values()] == ["lsft", "gsft"] * 2
    assert about["trained on"].tolist() == [f"set {k}" for k in range(4)]
    assert about["draws at, pixels"].tolist() == [one.size for one in found.values()] == [16, 17, 18, 19]
