"""The explainer is its steps, and leaves nets as it found them."""

import pytest
import torch
from torch import nn

from sftgan import Explainer, Generator, InputError, cgma, layer_cams
from sftgan.cams.conditions import ConditionSpec


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    convs = [
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, 1, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, 1, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, 1, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 6, 3, 2, 1),
        nn.BatchNorm2d(6),
    ]
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)]
    model = nn.Sequential(*convs, *head).eval()
    generator = Generator("lsft", eta=5, width=4)
    images = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    return model, generator, images


@pytest.mark.parametrize("rounding, tap", [("double", "post"), ("single", "pre")])
def test_equals_its_steps_done_by_hand(parts, rounding, tap):
    model, generator, images = parts
    maps = Explainer(generator, ConditionSpec(5, tap, rounding))(model, images, targets=[0, 4, 2])
    cams = layer_cams(model, images, targets=[0, 4, 2], tap=tap)
    with torch.no_grad():
        expected = generator.eval()(images, cgma(cams.maps, 5, rounding))
    torch.testing.assert_close(maps, expected, atol=2e-6, rtol=0)
    assert maps.shape == (3, 24, 24) and 0 <= maps.min() < maps.max() <= 1


def test_arguments_have_their_effect(parts):
    model, generator, images = parts
    maps = Explainer(generator)(model, images, targets=0)
    assert not torch.equal(maps, Explainer(generator)(model, images, targets=1))
    assert not torch.equal(maps, Explainer(generator, ConditionSpec(5, "pre"))(model, images, targets=0))
    predicted = model(images).argmax(1)
    by_default = Explainer(generator)(model, images)
    assert torch.equal(by_default, Explainer(generator)(model, images, targets=predicted))


def test_modes_gradients_and_weights_are_left_as_they_were(parts):
    model, generator, images = parts
    model.train()
    generator.train()
    generator.tail.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maps = Explainer(generator)(model, images)
    assert model.training and generator.training and not generator.tail.training
    assert not maps.requires_grad
    assert all(p.grad is None for net in (model, generator) for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    generator.train()


def test_bad_images_and_targets_are_said_in_a_sentence(parts):
    model, generator, images = parts
    explain = Explainer(generator)
    with pytest.raises(InputError, match="class index 5 is out of range"):
        explain(model, images, targets=5)
    with pytest.raises(InputError, match=r"images must lie in \[0, 1\]"):
        explain(model, images * 255)
    with pytest.raises(InputError, match="tap"):
        Explainer(generator, ConditionSpec(5, "behind"))(model, images)
