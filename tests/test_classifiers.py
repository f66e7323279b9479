"""The thin CNNs keep the paper's layers; fitting learns, repeats itself, resumes, and never sees the test images."""

from dataclasses import replace
from urllib.error import URLError

import pandas as pd
import pytest
import torch
import torchvision
from torch import nn

from sftgan import classifiers
from sftgan.classifiers import (
    ARCHITECTURES,
    Fitted,
    Normalised,
    Recipe,
    build,
    build_pretrained,
    fit,
    predict,
)
from sftgan.data import ImageData, Split
from sftgan.errors import InputError

N_CONVS = {"vgg16": 13, "resnet50": 53, "mobilenet_v2": 52}


def convs(net: nn.Module) -> list[nn.Conv2d]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d)]


def full_size(arch: str) -> nn.Module:
    """torchvision's own, without memory for its weights."""
    with torch.device("meta"):
        return torchvision.models.get_model(arch.replace("vgg16", "vgg16_bn"), weights=None, num_classes=10)


def last_map_side(model: nn.Module, size: int) -> int:
    """Side of the map that the convolution executed last makes of an image."""
    sides = []
    handles = [
        conv.register_forward_hook(lambda m, i, out: sides.append(out.shape[-1])) for conv in convs(model)
    ]
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    for handle in handles:
        handle.remove()
    assert sides == sorted(sides, reverse=True)
    return sides[-1]


@pytest.mark.parametrize(
    "arch, parameters", [("vgg16", 232_274), ("resnet50", 376_722), ("mobilenet_v2", 47_208)]
)
def test_an_eighth_of_the_channels_of_every_convolution(arch, parameters):
    model = build(arch, 10, width=1 / 8, size=32, last_map=4)
    assert sum(p.numel() for p in model.parameters()) == parameters
    thin, full = convs(model), convs(full_size(arch))
    assert len(thin) == N_CONVS[arch]
    for mine, theirs in zip(thin, full, strict=True):
        assert mine.kernel_size == theirs.kernel_size
        if theirs.groups == 1:
            assert mine.out_channels == round(theirs.out_channels / 8) and mine.groups == 1
        else:
            assert mine.groups == mine.in_channels == mine.out_channels
        assert mine.weight.shape == (
            mine.out_channels, mine.in_channels // mine.groups, *mine.kernel_size
        )  # fmt: skip


def test_mobilenet_keeps_its_seventeen_depthwise_convolutions():
    for width in (1 / 8, 1.0):
        assert sum(conv.groups > 1 for conv in convs(build("mobilenet_v2", 3, width))) == 17


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_full_width_is_torchvisions_net(arch):
    mine, theirs = build(arch, 10).net.state_dict(), full_size(arch).state_dict()
    if arch == "vgg16":  # the head is one linear layer instead of three
        theirs = {name: value for name, value in theirs.items() if name.startswith("features")}
        mine = {name: value for name, value in mine.items() if not name.startswith("classifier")}
    assert {n: v.shape for n, v in mine.items()} == {n: v.shape for n, v in theirs.items()}
    strides = [c.stride for c in convs(build(arch, 10))]
    assert strides == [c.stride for c in convs(full_size(arch))], "images of 224 pixels lose no stride"


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(
    "size, last_map",
    [(16, 1), (28, 7), (30, 4), (32, 4), (45, 7), (64, 8), (7, 7)],
)
def test_the_last_map_is_as_large_as_asked_for_but_not_larger_than_need_be(arch, size, last_map):
    side = last_map_side(build(arch, 2, width=1 / 16, size=size, last_map=last_map), size)
    assert last_map <= side <= 2 * last_map


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_as_torchvision_at_its_own_size(arch):
    assert last_map_side(build(arch, 2, width=1 / 16), 224) == (14 if arch == "vgg16" else 7)


def test_the_initial_weights_are_those_of_the_seed_and_let_signals_through():
    nets = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        nets.append(build("resnet50", 10, width=1 / 8, size=32, last_map=4).eval())
    a, b, c = (net.state_dict() for net in nets)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["net.conv1.weight"], c["net.conv1.weight"])
    assert all(value.isfinite().all() for value in a.values())
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = nets[0](images)
    assert logits.shape == (4, 10) and 1e-3 < logits.std(0).mean() < 10


def test_normalisation_is_inside():
    model = Normalised(nn.Identity(), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    out = model(torch.ones(1, 3, 1, 1)).flatten()
    assert out.tolist() == [1.0, 3.0, 0.5]


def test_bad_arguments_of_build():
    with pytest.raises(InputError, match="unknown architecture 'resnet5': did you mean 'resnet50'"):
        build("resnet5", 10)
    for width in (0, -1, 1.5):
        with pytest.raises(InputError, match=rf"width must lie in \(0, 1\], got {width}"):
            build("vgg16", 10, width=width)
    with pytest.raises(
        InputError, match="a last map of 33 pixels needs images of at least 33 pixels, got 32"
    ):
        build("vgg16", 10, size=32, last_map=33)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_pretrained_weights_offline_are_an_error_and_never_a_random_net(arch, monkeypatch):
    def offline(name, weights):
        assert (name, weights) == (arch, "DEFAULT")
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    with pytest.raises(InputError, match=rf"weights of {arch} could not be downloaded .*pretrained=False"):
        build_pretrained(arch, 10)


@pytest.mark.parametrize(
    "arch, last, features", [("vgg16", "6", 4096), ("resnet50", "fc", 2048), ("mobilenet_v2", "1", 1280)]
)
def test_pretrained_nets_get_a_new_last_layer_only(arch, last, features, monkeypatch):
    with torch.device("meta"):
        given = torchvision.models.get_model(arch, weights=None)
    before = dict(given.named_parameters())
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: given)
    net = build_pretrained(arch, 7).net
    changed = {name for name, p in net.named_parameters() if p is not before[name]}
    assert {name.split(".")[-2] for name in changed} == {last} and len(changed) == 2
    *_, linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    assert (linear.in_features, linear.out_features) == (features, 7)


# Fitting


def halves(n: int, seed: int) -> Split:
    """Class 0 is brighter on the left, class 1 on the right."""
    labels = torch.arange(n) % 2
    images = torch.randint(0, 80, (n, 1, 16, 16), generator=torch.Generator().manual_seed(seed))
    images[labels == 0, :, :, :8] += 100
    images[labels == 1, :, :, 8:] += 100
    return Split(images.to(torch.uint8), labels)


@pytest.fixture(scope="module")
def data():
    return ImageData("halves", "embedded", "halves", ("left", "right"), halves(120, 0), halves(45, 1))


def net(arch="vgg16", seed=0) -> Normalised:
    torch.manual_seed(seed)
    return build(arch, 2, width=1 / 8, size=16, last_map=4)


def assert_same(a: Fitted, b: Fitted):
    """Bit for bit."""
    mine, other = a.model.state_dict(), b.model.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    pd.testing.assert_frame_equal(a.curve, b.curve, check_exact=True)
    assert torch.equal(a.confusion, b.confusion)


@pytest.mark.parametrize(
    "arch, optimiser, lr",
    [
        ("vgg16", "adamw", 1e-2),
        ("vgg16", "sgd", 0.1),
        ("resnet50", "adam", 1e-2),
        ("mobilenet_v2", "sgd", 0.1),
    ],
)
def test_it_learns(data, arch, optimiser, lr):
    fitted = fit(net(arch), data, Recipe(optimiser, lr, epochs=4))
    assert fitted.test_accuracy > 0.95
    assert list(fitted.curve) == ["epoch", "loss", "held_back_accuracy"]
    assert list(fitted.curve["epoch"]) == [1, 2, 3, 4]
    assert fitted.curve["loss"].iloc[-1] < 0.3 * fitted.curve["loss"].iloc[0]
    assert not fitted.model.training


def test_the_confusion_matrix_counts_the_test_images(data):
    fitted = fit(net(), data, Recipe("sgd", 0.01, epochs=1))
    assert fitted.confusion.sum(1).tolist() == [23, 22]
    predicted = predict(fitted.model, data.test).argmax(1)
    expected = torch.zeros(2, 2, dtype=torch.int64)
    for true, guess in zip(data.test.labels, predicted, strict=True):
        expected[true, guess] += 1
    assert torch.equal(fitted.confusion, expected)
    right = (predicted == data.test.labels).float().mean().item()
    assert fitted.test_accuracy == pytest.approx(right)


def test_the_same_seed_gives_the_same_bits_and_another_one_others(data):
    first, again, other = (fit(net(), data, Recipe(epochs=2), seed=seed) for seed in (3, 3, 4))
    assert_same(first, again)
    assert not torch.equal(first.model.state_dict()["net.features.0.weight"],
                           other.model.state_dict()["net.features.0.weight"])  # fmt: skip


def test_the_test_images_choose_nothing(data):
    turned = replace(data.test, labels=1 - data.test.labels, images=data.test.images.flip(-1) // 2)
    recipe = Recipe("sgd", 0.01, one_cycle=False, epochs=3)
    plain, other = fit(net(), data, recipe), fit(net(), replace(data, test=turned), recipe)
    mine, theirs = plain.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    pd.testing.assert_frame_equal(plain.curve, other.curve, check_exact=True)


def test_the_earliest_best_epoch_is_kept(data):
    recipe = Recipe("sgd", 0.02, one_cycle=False, epochs=6)
    fitted = fit(net(), data, recipe)
    best = int(fitted.curve["held_back_accuracy"].idxmax()) + 1  # idxmax: the first of equals
    assert best < 6, "nothing is tested if the last epoch is the best"
    shorter = fit(net(), data, replace(recipe, epochs=best))
    assert all(
        torch.equal(value, shorter.model.state_dict()[name])
        for name, value in fitted.model.state_dict().items()
    )


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_an_interrupted_fit_ends_with_the_same_bits(data, tmp_path, monkeypatch, optimiser):
    recipe, checkpoint = Recipe(optimiser, 0.01, epochs=4), tmp_path / "cnn.pt"
    undisturbed = fit(net("mobilenet_v2"), data, recipe)
    finished, one_epoch = [], classifiers._fit_epoch

    def interrupted(*arguments):
        if len(finished) == 2:
            raise KeyboardInterrupt
        finished.append(one_epoch(*arguments))
        return finished[-1]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(classifiers, "_fit_epoch", interrupted)
        fit(net("mobilenet_v2"), data, recipe, checkpoint=checkpoint)
    assert checkpoint.exists()
    resumed = fit(net("mobilenet_v2", seed=7), data, recipe, checkpoint=checkpoint)
    assert_same(resumed, undisturbed)
    monkeypatch.setattr(classifiers, "_fit_epoch", None)  # whoever fits, fails
    assert_same(fit(net("mobilenet_v2"), data, recipe, checkpoint=checkpoint), undisturbed)


def test_outputs_do_not_depend_on_the_other_images_of_a_batch(data):
    fitted = fit(net("resnet50"), data, Recipe(epochs=2))
    together = predict(fitted.model, data.test)
    alone = torch.cat([predict(fitted.model, data.test.subset(slice(i, i + 1))) for i in range(45)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)
    in_parts = predict(fitted.model.train(), data.test, batch=7)
    torch.testing.assert_close(in_parts, together, rtol=1e-4, atol=1e-4)
    assert not fitted.model.training


def test_batch_norm_statistics_are_exact():
    """With one batch, those of the batch itself, whatever the running averages were."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    split = halves(10, 0)
    model(torch.rand(4, 3, 2, 2))
    classifiers._recompute_batch_norm(model, split, batch=10)
    images = split.batch()
    torch.testing.assert_close(model[0].running_mean, images.mean((0, 2, 3)))
    torch.testing.assert_close(model[0].running_var, images.var((0, 2, 3)))
    assert model[0].momentum == 0.1


def test_bad_recipes_are_answered_in_a_sentence(data):
    with pytest.raises(InputError, match="unknown optimiser 'sdg': did you mean 'sgd'"):
        fit(net(), data, Recipe("sdg"))
    with pytest.raises(
        InputError, match=r"loss became (nan|inf) in epoch 1: lower its learning rate \(now 1e\+30\)"
    ):
        fit(net(), data, Recipe("sgd", 1e30, one_cycle=False))
