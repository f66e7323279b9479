"""Fitting learns, repeats itself, resumes, and never sees the test images."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

from sftgan.cnns.architectures import build
from sftgan.cnns.normalised import Normalised
from sftgan.companion.data.datasets import ImageData, Split
from sftgan.companion.fitting import classifiers
from sftgan.companion.fitting.classifiers import ClassifierRecipe, Fitted, fit, predict
from sftgan.errors import InputError


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
        ("vgg16", "sgd", 0.05),
        ("resnet50", "adam", 1e-2),
        ("mobilenet_v2", "sgd", 0.1),
    ],
)
def test_it_learns(data, arch, optimiser, lr):
    fitted = fit(net(arch), data, ClassifierRecipe(optimiser, lr, epochs=4))
    assert fitted.test_accuracy > 0.95
    assert list(fitted.curve) == ["epoch", "loss", "held_back_accuracy"]
    assert list(fitted.curve["epoch"]) == [1, 2, 3, 4]
    assert fitted.curve["loss"].iloc[-1] < 0.3 * fitted.curve["loss"].iloc[0]
    assert not fitted.model.training


def test_the_confusion_matrix_counts_the_test_images(data):
    fitted = fit(net(), data, ClassifierRecipe("sgd", 0.01, epochs=1))
    assert fitted.confusion.sum(1).tolist() == [23, 22]
    predicted = predict(fitted.model, data.test).argmax(1)
    expected = torch.zeros(2, 2, dtype=torch.int64)
    for true, guess in zip(data.test.labels, predicted, strict=True):
        expected[true, guess] += 1
    assert torch.equal(fitted.confusion, expected)
    right = (predicted == data.test.labels).float().mean().item()
    assert fitted.test_accuracy == pytest.approx(right)


def test_the_same_seed_gives_the_same_bits_and_another_one_others(data):
    first, again, other = (fit(net(), data, ClassifierRecipe(epochs=2), seed=seed) for seed in (3, 3, 4))
    assert_same(first, again)
    assert not torch.equal(first.model.state_dict()["net.features.0.weight"],
                           other.model.state_dict()["net.features.0.weight"])  # fmt: skip


def test_the_test_images_choose_nothing(data):
    turned = replace(data.test, labels=1 - data.test.labels, images=data.test.images.flip(-1) // 2)
    recipe = ClassifierRecipe("sgd", 0.01, one_cycle=False, epochs=3)
    plain, other = fit(net(), data, recipe), fit(net(), replace(data, test=turned), recipe)
    mine, theirs = plain.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    pd.testing.assert_frame_equal(plain.curve, other.curve, check_exact=True)


def test_the_earliest_best_epoch_is_kept(data):
    recipe = ClassifierRecipe("sgd", 0.02, one_cycle=False, epochs=6)
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
    recipe, checkpoint = ClassifierRecipe(optimiser, 0.01, epochs=4), tmp_path / "cnn.pt"
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


@pytest.mark.parametrize("head_epochs", [0, 2])
def test_dropout_is_decided_by_the_seed_also_after_a_kill(data, tmp_path, monkeypatch, head_epochs):
    def dropping(seed=0):
        model = net("vgg16")
        model.net.classifier = nn.Sequential(nn.Dropout(0.5), model.net.classifier)
        torch.manual_seed(seed)
        return model

    recipe = ClassifierRecipe(epochs=3, head_epochs=head_epochs)
    undisturbed = fit(dropping(), data, recipe)
    other = dropping(seed=1)
    before = torch.random.get_rng_state()
    assert_same(fit(other, data, recipe), undisturbed)
    assert torch.equal(torch.random.get_rng_state(), before), "the random numbers of others are left alone"

    whole, checkpoint = classifiers._fit_epoch, tmp_path / "cnn.pt"

    def killed(*arguments):
        if arguments[-1] == 2:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(classifiers, "_fit_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(dropping(), data, recipe, checkpoint=checkpoint)
    monkeypatch.setattr(classifiers, "_fit_epoch", whole)
    assert_same(fit(dropping(seed=2), data, recipe, checkpoint=checkpoint), undisturbed)


def test_outputs_do_not_depend_on_the_other_images_of_a_batch(data):
    fitted = fit(net("resnet50"), data, ClassifierRecipe(epochs=2))
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
        fit(net(), data, ClassifierRecipe("sdg"))
    with pytest.raises(
        InputError, match=r"loss became (nan|inf) in epoch 1: lower its learning rate \(now 1e\+30\)"
    ):
        fit(net(), data, ClassifierRecipe("sgd", 1e30, one_cycle=False))


def test_the_head_is_fitted_first_on_features_computed_once(data, monkeypatch):
    seen = []

    def counted(model, split):
        seen.append(len(split))
        return predict(model, split)

    monkeypatch.setattr(classifiers, "predict", counted)
    before = net()
    weights = {name: value.clone() for name, value in before.state_dict().items()}
    fitted = fit(before, data, ClassifierRecipe(epochs=0, head_epochs=30))
    changed = {
        name for name, value in fitted.model.state_dict().items() if not torch.equal(value, weights[name])
    }
    assert {name.rsplit(".", 1)[-1] for name in changed} == {"weight", "bias"} and len(changed) == 2
    assert all("classifier" in name for name in changed)
    assert len(seen) == 3, "features of the training images, accuracy on the held-back and on the test images"
    assert fitted.test_accuracy > 0.9 and fitted.curve.empty


def test_an_interrupted_fit_with_a_head_ends_with_the_same_bits(data, tmp_path, monkeypatch):
    recipe = ClassifierRecipe(lr=1e-3, epochs=2, head_epochs=3)
    whole = fit(net(), data, recipe)
    epoch = classifiers._fit_epoch
    calls = []

    def stop_at_the_second(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return epoch(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(classifiers, "_fit_epoch", stop_at_the_second)
        fit(net(), data, recipe, checkpoint=tmp_path / "fit.pt")
    monkeypatch.setattr(classifiers, "_fit_head", None)  # not again
    assert_same(fit(net(), data, recipe, checkpoint=tmp_path / "fit.pt"), whole)


def test_a_small_data_set_gets_more_epochs(data):
    recipe = ClassifierRecipe(epochs=2, batch=32, min_steps=14)
    assert [recipe.epochs_of(n) for n in (32, 108, 700)] == [14, 4, 2]
    assert len(fit(net(), data, recipe).curve) == 4, "108 of 120 images, as a tenth is held back"


def test_only_the_last_convolutions_are_fitted_and_batch_norm_stays_as_it_is(data):
    before = net()
    weights = {name: value.clone() for name, value in before.state_dict().items()}
    convolutions = [name for name, module in before.named_modules() if isinstance(module, nn.Conv2d)]
    fitted = fit(before, data, ClassifierRecipe(lr=1e-3, epochs=2, last_convolutions=2))
    changed = {n for n, value in fitted.model.state_dict().items() if not torch.equal(value, weights[n])}
    fresh = {f"{name}.weight" for name in convolutions[-2:]}
    assert changed & {f"{name}.weight" for name in convolutions} == fresh
    assert not [name for name in changed if "running" in name or "num_batches" in name]
    assert all(parameter.requires_grad for parameter in fitted.model.parameters()), "as before"


def test_more_convolutions_than_there_are_is_one_sentence(data):
    with pytest.raises(InputError, match="last_convolutions is 14, but the CNN has 13"):
        fit(net(), data, ClassifierRecipe(epochs=1, last_convolutions=14))
