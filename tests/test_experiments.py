"""The frames of the chapters on a micro profile: the right rows, and numbers that can be checked by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from sftgan import experiments, metrics, words
from sftgan.errors import InputError
from sftgan.experiments import METHODS
from sftgan.noise import salt_and_pepper
from sftgan.study import Study
from sftgan.training import Examples, generate

RECIPE = {"optimiser": "adamw", "lr": 0.01, "epochs": 1}
DRAWN = {"source": "embedded", "train": 36, "test": 24}
PROFILE = {
    "similar": {"mnist": DRAWN | {"test": 30}},
    "dissimilar": {"cifar10": DRAWN | {"test": 30}},
    "extra": [
        {"dataset": "ppmi", "arch": "vgg19", "cnn": RECIPE} | DRAWN,
        {"dataset": "ppmi_control", "arch": "vgg19", "cnn": RECIPE} | DRAWN,
        {"dataset": "tamil", "arch": "vgg19", "cnn": RECIPE} | DRAWN,
    ],
    "captions": {"source": "embedded", "train": 24, "test": 6, "encoder": ["cifar10", "vgg16"], "epochs": 1},
    "size": 16,
    "cnns": {"vgg16": RECIPE},
    "eta": 3,
    "gan_size": 16,
    "gan_width": 4,
    "gan_train": 8,
    "gan_test": 6,
    "gan_watched": 2,
    "gan_epochs": 1,
    "workers": 1,
}
SIMILAR, DISSIMILAR = ("mnist", "vgg16", "similar"), ("cifar10", "vgg16", "dissimilar")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("experiments")


@pytest.fixture(autouse=True)
def shared_cache(isolated, folder, monkeypatch):
    monkeypatch.setenv("SFTGAN_CACHE", str(folder))


@pytest.fixture
def study():
    return Study("smoke", **PROFILE)


def classifier(study, case):
    return study.classifiers([case[:2]])[case[:2]].model


def test_both_strategies_have_their_own_gans(study):
    assert experiments.selected(study) == [SIMILAR, DISSIMILAR]
    on_unseen = {s: study.maps("tamil", "vgg19", s)["LSFT"] for s in ("similar", "dissimilar")}
    assert not torch.equal(*on_unseen.values())
    with pytest.raises(InputError, match="unknown data set 'tamil'"):
        study.maps("tamil", "vgg19")  # of no strategy: one must be named


def test_no_gan_has_seen_an_unseen_pair_so_all_its_classes_are_tested(study):
    assert study.unseen() == [("tamil", "vgg19")]
    assert study.classes("tamil", "vgg19") == (list(range(12)), list(range(12)))
    seen, held_out = study.classes("cifar10")
    assert set(seen).isdisjoint(held_out)


# Faithfulness


def test_faithfulness_is_the_cnn_on_energy_maps(study):
    frame = experiments.faithfulness(study, [DISSIMILAR], n_curves=4, steps=4)
    assert len(frame) == len(METHODS) * 6 and set(frame["method"]) == set(METHODS)
    model, images = classifier(study, DISSIMILAR), study.chosen(*DISSIMILAR[:2], "test").batch()
    maps = study.maps(*DISSIMILAR)
    with torch.no_grad():
        before = model(images).softmax(1)
        predicted = before.argmax(1, keepdim=True)
        for method in METHODS:
            rows = frame[frame["method"] == method]
            np.testing.assert_allclose(rows["E"], before.gather(1, predicted)[:, 0], atol=1e-6)
            after = model(images * maps[method][:, None]).softmax(1).gather(1, predicted)[:, 0]
            np.testing.assert_allclose(rows["O"], after, atol=1e-6)
            np.testing.assert_allclose(rows["area"], maps[method].mean((1, 2)), atol=1e-6)
    assert frame.groupby("method")["insertion"].count().unique().tolist() == [4]


def test_insertion_begins_black_and_ends_with_the_image(study):
    frame = experiments.faithfulness(study, [DISSIMILAR], n_curves=4, steps=1)
    model, images = classifier(study, DISSIMILAR), study.chosen(*DISSIMILAR[:2], "test").batch()[:4]
    with torch.no_grad():
        c = model(images).argmax(1, keepdim=True)
        ends = [model(part).softmax(1).gather(1, c)[:, 0] for part in (images, images * 0)]
    expected = (ends[0] + ends[1]) / 2  # with a single step every method has the same curve
    for curve in ("insertion", "deletion"):
        for _, rows in frame.dropna().groupby("method"):
            np.testing.assert_allclose(rows[curve], expected, atol=1e-6)


def test_confidence_may_be_in_the_labelled_class(study):
    frame = experiments.faithfulness(study, [DISSIMILAR], "labelled", n_curves=1, steps=1)
    model, split = classifier(study, DISSIMILAR), study.chosen(*DISSIMILAR[:2], "test")
    with torch.no_grad():
        expected = model(split.batch()).softmax(1).gather(1, split.labels[:, None])[:, 0]
    np.testing.assert_allclose(frame[frame["method"] == "LSFT"]["E"], expected, atol=1e-6)
    with pytest.raises(InputError, match="unknown confidence 'labeled': did you mean 'labelled'"):
        experiments.faithfulness(study, [DISSIMILAR], "labeled")


# Noise


def test_noise_explains_the_noisy_image(study):
    frame = experiments.noise(study, [SIMILAR], [0.0, 0.3], n_images=3)
    assert len(frame) == 2 * 3 * 3 and set(frame["method"]) == {"LSFT", "GSFT", "Grad-CAM"}
    clean, maps = study.explained(*SIMILAR[:2], "test"), study.maps(*SIMILAR)
    none = frame[(frame["density"] == 0) & (frame["method"] == "LSFT")]
    np.testing.assert_allclose(
        none["background"], metrics.background_error(maps["LSFT"], clean.masks)[:3], atol=1e-5
    )
    assert none["right"].tolist() == (clean.predictions == clean.labels)[:3].tolist()

    noisy = salt_and_pepper(study.chosen(*SIMILAR[:2], "test").batch()[:3], 0.3, study.seed)
    with torch.no_grad():
        predicted = classifier(study, SIMILAR)(noisy).argmax(1)
    some = frame[(frame["density"] == 0.3) & (frame["method"] == "GSFT")]
    assert some["right"].tolist() == (predicted == clean.labels[:3]).tolist()
    without = frame[(frame["density"] == 0) & (frame["method"] == "GSFT")]
    assert not np.allclose(some["background"], without["background"])
    with pytest.raises(InputError, match="noise density is 1.5"):
        experiments.noise(study, [SIMILAR], [1.5], n_images=3)


# Relevance


def test_relevance_is_the_difference_to_the_map_with_one_cgma_replaced(study):
    frame = experiments.relevance(study, [DISSIMILAR])
    assert len(frame) == 2 * 3 * 3 * 6  # GANs, replacements, CGMAs, images
    shown = study.explained(*DISSIMILAR[:2], "test").examples
    mean = study.explained(*DISSIMILAR[:2], "train").examples.conditions.mean(0)
    generator = study.gans("dissimilar")["lsft"].generator
    full = generate(generator, shown)
    shown_at_1 = shown.conditions[:, 1]
    others = {"zeros": 0 * shown_at_1, "mean": mean[1], "another image": shown_at_1.roll(1, 0)}
    lsft = frame[(frame["method"] == "LSFT") & (frame["c"] == 1)]
    for name, other in others.items():
        conditions = shown.conditions.clone()
        conditions[:, 1] = other
        without = generate(generator, Examples(shown.images, conditions, shown.targets))
        rows = lsft[lsft["replacement"] == name]
        np.testing.assert_allclose(rows["relevance"], (full - without).abs().sum((1, 2)), atol=1e-3)
        assert (rows["relevance"] > 0).any()


# Shortcuts


def test_shortcuts_compare_two_cnns_on_the_same_pictures(study):
    frame = experiments.shortcuts(study, "vgg19")
    assert len(frame) == 2 * len(METHODS) * 6
    ones = frame[frame["method"] == "all ones"]
    np.testing.assert_allclose(ones["on the shortcut"], ones["shortcut's area"])
    areas = [part["object's area"].to_numpy() for _, part in ones.groupby("cnn")]
    np.testing.assert_array_equal(*areas)
    cams = [
        part["on the shortcut"].to_numpy() for _, part in frame[frame["method"] == "Grad-CAM"].groupby("cnn")
    ]
    assert not np.allclose(*cams, equal_nan=True)
    crossed = experiments.crossed_accuracies(study, "vgg19")
    assert crossed[["cnn", "n"]].values.tolist() == [["shortcut", 24]] * 2 + [["honest", 24]] * 2
    own = study.classifiers([("ppmi", "vgg19")])["ppmi", "vgg19"].test_accuracy
    assert crossed["accuracy"][0] == pytest.approx(own)


# Pictures


def test_images_are_chosen_by_rule():
    frame = pd.DataFrame({"image": [0, 1, 2, 3, 4], "dice": [0.4, 0.1, 0.9, 0.5, 0.2]})
    chosen = experiments.by_rule(frame, "dice", seed=0)
    assert (chosen["best"], chosen["median"], chosen["worst"]) == (2, 0, 1)
    assert chosen == experiments.by_rule(frame.sample(frac=1, random_state=1), "dice", seed=0)
    drawn = {experiments.by_rule(frame, "dice", seed)["drawn"] for seed in range(40)}
    assert drawn == {0, 1, 2, 3, 4}


def test_likeness_to_saliency(study):
    frame = experiments.analogy(study, SIMILAR)
    assert len(frame) == (len(METHODS) - 1) * 6 and "all ones" not in set(frame["method"])
    saliency = study.compared(*SIMILAR[:2], range(6), ["Saliency"])["Saliency"]
    expected = metrics.rank_correlation(study.maps(*SIMILAR)["luminance"], saliency)
    np.testing.assert_allclose(frame[frame["method"] == "luminance"]["rank correlation"], expected, atol=1e-6)
    assert frame["SSIM"].between(-1, 1).all()


# Captions and surveys


def test_words_have_maps_and_roles(study):
    caption, maps = words.maps(study, 0)
    assert set(maps) == {"Grad-CAM", "LSFT", "GSFT"}
    assert all(drawn.shape == (len(caption), 16, 16) for drawn in maps.values())
    frame = words.intensities(study, 2)
    first = frame[(frame["image"] == 0) & (frame["method"] == "LSFT")]
    assert tuple(first["word"]) == caption
    np.testing.assert_allclose(first["intensity"], maps["LSFT"].mean((1, 2)), atol=1e-6)
    for n in (0, 7, "two"):
        with pytest.raises(InputError, match="n_images is .*: give a number from 1 to 6"):
            words.intensities(study, n)


def test_survey_questions_are_spread_over_the_pairs(study):
    asked = experiments.questions(study, ("LSFT", "Grad-CAM"), 5)
    assert len(asked) == 5 and all(list(q.maps) == ["LSFT", "Grad-CAM"] for q in asked)
    digits = [q for q in asked if q.caption in study.image_data("mnist").classes]
    assert len(digits) == 3
    images = study.explained(*SIMILAR[:2], "test").examples.images
    (first,) = [i for i, image in enumerate(images) if torch.equal(image, asked[0].image)]
    assert torch.equal(asked[0].maps["LSFT"], study.maps(*SIMILAR)["LSFT"][first])
    with pytest.raises(InputError, match="images for 12 questions only, 13 were asked for"):
        experiments.questions(study, ("LSFT", "Grad-CAM"), 13)
    with pytest.raises(InputError, match="unknown method 'GradCAM': did you mean 'Grad-CAM'"):
        experiments.questions(study, ("LSFT", "GradCAM"), 2)
    with pytest.raises(InputError, match="unknown task 'captions': did you mean 'captioning'"):
        experiments.questions(study, ("LSFT", "Grad-CAM"), 2, "captions")


def test_accuracies_of_any_pairs(study):
    frame = experiments.accuracies(study, [("tamil", "vgg19"), ("mnist", "vgg16")])
    assert frame["data"].tolist() == ["rendered Tamil vowels", "MNIST 5000"]
    assert frame["classes"].tolist() == [12, 10] and frame["test images"].tolist() == [24, 30]
    assert (frame["low"] <= frame["accuracy"]).all() and (frame["accuracy"] <= frame["high"]).all()


def test_where_the_object_is_not_known_grad_cam_is_the_truth():
    frame = pd.DataFrame({
        "dataset": ["a", "a", "b"], "truth": ["object", "Grad-CAM", "Grad-CAM"], "dice": [0.1, 0.2, 0.3],
    })  # fmt: skip
    assert experiments.nearest_truth(frame)["dice"].tolist() == [0.1, 0.3]


@pytest.mark.parametrize(
    "call, sentence",
    [
        (
            lambda study: experiments.faithfulness(study, [SIMILAR], steps=0),
            "steps is 0: give a whole number",
        ),
        (
            lambda study: experiments.noise(study, [SIMILAR], [], 3),
            "the noise densities are .*: give a list such as",
        ),
        (lambda study: experiments.noise(study, [SIMILAR], [0.1], 0), "n_images is 0: give a whole number"),
        (
            lambda study: experiments.questions(study, ("LSFT", "Grad-CAM"), 0),
            "questions is 0: give a whole number",
        ),
    ],
)
def test_bad_counts_are_said(study, call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(study)
