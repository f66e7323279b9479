"""The frames of the chapters on a micro profile: the right rows, and numbers that can be checked by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from sftgan import metrics
from sftgan.companion.chapters import (
    captioning,
    dice,
    faithfulness,
    noise,
    qualitative,
    relevance,
    shortcuts,
    survey,
)
from sftgan.companion.chapters.noise import salt_and_pepper
from sftgan.companion.study import frames
from sftgan.companion.study.frames import METHODS
from sftgan.companion.study.study import Study
from sftgan.errors import InputError
from sftgan.gan.examples import Examples
from sftgan.gan.training import generate

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


def test_seeds_are_pooled_and_trained_before_anything_is_measured(folder, monkeypatch):
    two = Study("smoke", dataset="mnist", **PROFILE | {"seeds": 2})
    trained = []
    monkeypatch.setattr(Study, "gans", lambda self, strategy: trained.append((self.seed, strategy)))

    def measure(one: Study) -> pd.DataFrame:
        assert trained == [(0, "similar"), (1, "similar")], "all of them, and of the selected strategy only"
        return pd.DataFrame({"seed": [one.seed], "value": [10 * one.seed]})

    assert frames.over_seeds(two, measure).to_dict("list") == {"seed": [0, 1], "value": [0, 10]}


def test_both_strategies_have_their_own_gans(study):
    assert frames.selected(study) == [SIMILAR, DISSIMILAR]
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
    frame = faithfulness.confidences(study, [DISSIMILAR])
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


def test_wins_are_against_grad_cam_on_the_same_image(study):
    frame = faithfulness.confidences(study, [DISSIMILAR])
    ours, theirs = (frame[frame["method"] == method].reset_index() for method in ("luminance", "Grad-CAM"))
    assert ours["win"].tolist() == [100.0 * won for won in ours["O"] > theirs["O"]]
    lost = [((part["E"] - part["O"]) / part["E"]).clip(lower=0) for part in (ours, theirs)]
    assert ours["win (Grad-CAM++)"].tolist() == [100.0 * won for won in lost[0] < lost[1]]
    assert ours["balance (Grad-CAM++)"].tolist() == (100 * np.sign(lost[1] - lost[0])).tolist()
    assert (theirs[["win", "balance", "win (Grad-CAM++)", "balance (Grad-CAM++)"]] == 0).all(axis=None)


def test_insertion_begins_black_and_ends_with_the_image(study):
    frame = faithfulness.curves(study, [DISSIMILAR], n_images=4, steps=2)
    assert len(frame) == len(METHODS) * 4 * 2 * 3 and frame["share"].unique().tolist() == [0, 0.5, 1]
    model, images = classifier(study, DISSIMILAR), study.chosen(*DISSIMILAR[:2], "test").batch()[:4]
    with torch.no_grad():
        c = model(images).argmax(1, keepdim=True)
        whole, black = (model(part).softmax(1).gather(1, c)[:, 0] for part in (images, images * 0))
    ends = {("insertion", 0): black, ("insertion", 1): whole, ("deletion", 0): whole, ("deletion", 1): black}
    for (_, curve, share), rows in frame.groupby(["method", "curve", "share"]):
        if share != 0.5:
            np.testing.assert_allclose(rows["confidence"], ends[curve, share], atol=1e-6)


def test_areas_are_those_below_the_curves(study):
    drawn = faithfulness.curves(study, [SIMILAR, DISSIMILAR], n_images=4, steps=2)
    frame = faithfulness.areas(drawn)
    assert len(frame) == 2 * len(METHODS) * 4 and frame["strategy"].unique().tolist() == [
        "similar",
        "dissimilar",
    ]
    case = "strategy == 'dissimilar' and method == 'LSFT' and image == 3"
    for curve in ("insertion", "deletion"):
        a, b, c = drawn.query(f"{case} and curve == @curve")["confidence"]
        assert frame.query(case)[curve].item() == pytest.approx(a / 4 + b / 2 + c / 4)


def test_confidence_may_be_in_the_labelled_class(study):
    frame = faithfulness.confidences(study, [DISSIMILAR], "labelled")
    model, split = classifier(study, DISSIMILAR), study.chosen(*DISSIMILAR[:2], "test")
    with torch.no_grad():
        expected = model(split.batch()).softmax(1).gather(1, split.labels[:, None])[:, 0]
    np.testing.assert_allclose(frame[frame["method"] == "LSFT"]["E"], expected, atol=1e-6)
    whole = faithfulness.curves(study, [DISSIMILAR], "labelled", n_images=4, steps=1)
    ends = whole.query("method == 'LSFT' and curve == 'insertion' and share == 1")["confidence"]
    np.testing.assert_allclose(ends, expected[:4], atol=1e-6)
    with pytest.raises(InputError, match="unknown confidence 'labeled': did you mean 'labelled'"):
        faithfulness.confidences(study, [DISSIMILAR], "labeled")


def test_galleries_show_the_median_picture_of_each_data_set(study):
    scores = frames.overlaps(study, [SIMILAR, DISSIMILAR])
    rows, titles = dice.objects_and_maps(study, scores, ["LSFT"])
    part = frames.nearest_truth(scores).query("method == 'LSFT' and dataset == 'mnist'")
    median = part[part["dice"] == part["dice"].sort_values().iloc[3]]["image"]  # of 6
    explained, maps = study.explained_images(*SIMILAR[:2], "test"), study.maps(*SIMILAR)
    (i,) = [k for k in median if torch.equal(rows[0][0], explained.examples.images[k])]
    assert torch.equal(rows[0][1], explained.masks[i].float()) and torch.equal(rows[0][2], maps["LSFT"][i])
    assert len(rows) == 2 and titles[0].endswith("vgg16\nMNIST 5000")

    measured = faithfulness.confidences(study, [SIMILAR])
    (row,), _, (said,) = faithfulness.energy_maps(study, measured, ["Grad-CAM", "all ones"])
    lsft = measured.query("method == 'LSFT'").assign(lost=lambda f: f["E"] - f["O"]).sort_values("lost")
    i = lsft["image"].iloc[3]
    torch.testing.assert_close(row[1], explained.examples.images[i] * maps["Grad-CAM"][i])
    torch.testing.assert_close(row[2], row[0])
    before, after = measured.query("method == 'Grad-CAM' and image == @i")[["E", "O"]].iloc[0]
    assert said == [f"{before:.2f}", f"{after:.2f}", f"{before:.2f}"]


# Noise


def test_noise_explains_the_noisy_image(study):
    frame = noise.noise(study, [SIMILAR], [0.0, 0.3], n_images=3)
    controls = ("mean map", "luminance")
    assert len(frame) == 2 * 5 * 3 and set(frame["method"]) == {"LSFT", "GSFT", "Grad-CAM", *controls}
    clean, maps = study.explained_images(*SIMILAR[:2], "test"), study.maps(*SIMILAR)
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
    changes = frame.groupby(["method", "image"])["background"].agg(np.ptp).groupby("method").max()
    assert changes["mean map"] == 0 and changes["luminance"] > 0
    assert (frame["chance"] == 1 / len(study.image_data("mnist").classes)).all()
    with pytest.raises(InputError, match="noise density is 1.5"):
        noise.noise(study, [SIMILAR], [1.5], n_images=3)


# Relevance


def test_relevance_is_the_difference_to_the_map_with_one_cgma_replaced(study):
    frame = relevance.relevances(study, [DISSIMILAR])
    assert len(frame) == 2 * 3 * 3 * 6  # GANs, replacements, CGMAs, images
    shown = study.explained_images(*DISSIMILAR[:2], "test").examples
    mean = study.explained_images(*DISSIMILAR[:2], "train").examples.conditions.mean(0)
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
        np.testing.assert_allclose(rows["intensity lost"], (full - without).mean((1, 2)), atol=1e-6)
        masks = study.explained_images(*DISSIMILAR[:2], "test").masks
        share, left = (metrics.foreground_share(maps, masks) for maps in (full, without))
        np.testing.assert_allclose(rows["foreground share lost"], share - left, atol=1e-6)
    assert set(frame["truth"]) == {"object"}


# Figures


def test_the_figure_under_noise_shows_what_is_measured(study):
    densities = [0.0, 0.3]
    rows, titles, said = noise.noise_maps(study, [SIMILAR, DISSIMILAR], densities)
    assert len(rows) == len(titles) == len(said) == 8 and all(len(row) == 2 for row in rows)
    assert titles[:4] == ["MNIST 5000\nvgg16", "GSFT", "LSFT", "Grad-CAM"]
    assert torch.equal(rows[0][0], study.explained_images(*SIMILAR[:2], "test").examples.images[0])
    frame = noise.noise(study, [SIMILAR], densities, n_images=3).query("image == 0")
    mask = study.explained_images(*SIMILAR[:2], "test").masks[:1]
    for method, maps in zip(titles[1:4], rows[1:4], strict=True):
        part = frame[frame["method"] == method]
        errors = [metrics.background_error(drawn[None], mask).item() for drawn in maps]
        np.testing.assert_allclose(errors, part["background"], atol=1e-5)
        assert said[0] == ["right" if right else "wrong" for right in part["right"]]
    assert said[1:4] == [["", ""]] * 3


def test_the_figure_after_the_blackout_shows_what_is_measured(study):
    rows, titles = relevance.blackouts(study, [DISSIMILAR], "LSFT")
    assert [title.split("\n")[1] for title in titles] == ["zeros", "mean", "another image"]
    assert all(len(row) == 2 + study.profile.eta for row in rows)
    frame = relevance.relevances(study, [DISSIMILAR]).query("method == 'LSFT' and image == 0")
    for title, (picture, full, *without) in zip(titles, rows, strict=True):
        assert torch.equal(picture, study.explained_images(*DISSIMILAR[:2], "test").examples.images[0])
        found = [(full - drawn).abs().sum().item() for drawn in without]
        part = frame[frame["replacement"] == title.split("\n")[1]].sort_values("c")
        np.testing.assert_allclose(found, part["relevance"], atol=1e-3)


# Shortcuts


def test_shortcuts_compare_two_cnns_on_the_same_pictures(study):
    frame = shortcuts.shortcuts(study, "vgg19")
    methods = {*METHODS, "Saliency", "SmoothGrad"}
    assert len(frame) == 2 * 2 * len(methods) * 6 and set(frame["method"]) == methods
    explained = study.explained_images("ppmi", "vgg19", "test")
    ones = frame[(frame["method"] == "all ones") & (frame["cnn"] == "honest")]
    for region, mask in {"patch": explained.shortcuts, "object": explained.masks}.items():
        rows = ones[ones["region"] == region]
        np.testing.assert_allclose(rows["share"], mask.double().mean((1, 2)))
        np.testing.assert_allclose(rows["beyond"], 0, atol=1e-12)
    for method, depends in {"Grad-CAM": True, "Saliency": True, "luminance": False}.items():
        rows = frame[(frame["method"] == method) & (frame["region"] == "patch")]
        two = [part["share"].to_numpy() for _, part in rows.groupby("cnn")]
        assert np.allclose(*two, equal_nan=True) != depends
    saliency = study.compared("ppmi", "vgg19", range(6), ["Saliency"], "ppmi_control")["Saliency"]
    rows = frame.query("method == 'Saliency' and region == 'object' and cnn == 'honest'")
    np.testing.assert_allclose(rows["share"], metrics.mass_share(saliency, explained.masks))


def test_accuracies_on_either_kind_of_scenes_have_intervals(study):
    crossed = shortcuts.crossed_accuracies(study, "vgg19")
    assert crossed[["cnn", "n"]].values.tolist() == [["shortcut", 24]] * 2 + [["honest", 24]] * 2
    assert crossed["scenes"].tolist() == ["scenes, telling patch", "scenes, random patch"] * 2
    own = frames.accuracies(study, [("ppmi", "vgg19"), ("ppmi_control", "vgg19")])
    columns = ["accuracy", "low", "high"]
    np.testing.assert_allclose(crossed.loc[[0, 3], columns], own[columns])


# Pictures


def test_images_are_chosen_by_rule():
    frame = pd.DataFrame({"image": [0, 1, 2, 3, 4], "dice": [0.4, 0.1, 0.9, 0.5, 0.2]})
    frame = frame.assign(dataset="mnist", arch="vgg16")
    chosen = frames.by_rule(frame, "dice", seed=0)
    assert (chosen["best"], chosen["median"], chosen["worst"]) == (2, 0, 1)
    assert chosen == frames.by_rule(frame.sample(frac=1, random_state=1), "dice", seed=0)
    drawn = [frames.by_rule(frame, "dice", seed)["drawn"] for seed in range(40)]
    assert set(drawn) == {0, 1, 2, 3, 4}
    others = [frames.by_rule(frame.assign(dataset="emnist"), "dice", seed)["drawn"] for seed in range(40)]
    assert drawn != others, "each pair has a draw of its own"


def test_likeness_to_saliency(study):
    frame = qualitative.analogy(study, SIMILAR)
    assert len(frame) == (len(METHODS) - 1) * 6 and "all ones" not in set(frame["method"])
    saliency, maps = study.compared(*SIMILAR[:2], range(6), ["Saliency"])["Saliency"], study.maps(*SIMILAR)
    luminance = frame[frame["method"] == "luminance"]
    expected = metrics.rank_correlation(maps["luminance"], saliency)
    np.testing.assert_allclose(luminance["rank correlation"], expected, atol=1e-6)
    assert frame["SSIM"].between(-1, 1).all()
    expected = metrics.additional_regions(maps["luminance"], maps["Grad-CAM"], saliency)
    np.testing.assert_allclose(luminance["additional"], expected)
    assert luminance["additional"].notna().any()
    assert frame.loc[frame["method"] == "Grad-CAM", "additional"].isna().all(), "nothing is beyond itself"


def test_intensity_is_the_mean_on_the_object(study):
    frame = qualitative.intensities(study, [SIMILAR, ("tamil", "vgg19", "dissimilar")])
    assert len(frame) == 2 * len(METHODS) * 6
    assert (frame.loc[frame["method"] == "all ones", "intensity"] == 1).all()
    lsft = frame[(frame["method"] == "LSFT") & (frame["dataset"] == "mnist")]
    mask, maps = study.explained_images(*SIMILAR[:2], "test").masks, study.maps(*SIMILAR)["LSFT"]
    np.testing.assert_allclose(
        lsft["intensity"], [m[on].mean() for m, on in zip(maps, mask, strict=True)], 1e-5
    )


def test_lsft_of_either_strategy_marks_the_same_images(study):
    frame = qualitative.by_strategy(study, [("tamil", "vgg19")])
    assert len(frame) == 2 * 2 * 6  # strategies, truths, images
    for strategy in ("similar", "dissimilar"):
        maps = study.maps("tamil", "vgg19", strategy)["LSFT"]
        rows = frame[frame["method"] == f"trained on {strategy}"]
        for _, part in rows.groupby("truth"):
            np.testing.assert_allclose(part["marked"], metrics.binarise(maps).double().mean((1, 2)))


def test_galleries_show_what_is_measured(study):
    chosen = {"mnist": {"drawn": 3, "best": 3, "median": 1, "worst": 0}, "cifar10": {"drawn": 2}}
    rows, titles, texts = qualitative.maps_by_method(study, "vgg16", chosen, ["drawn"], ["Saliency", "GSFT"])
    assert titles == ["MNIST 5000\nvgg16, drawn", "scenes, close up\nvgg16, drawn"]
    explained, maps = study.explained_images(*SIMILAR[:2], "test"), study.maps(*SIMILAR)
    shown = [explained.examples.images[3], explained.masks[3].float(), maps["GSFT"][3]]
    assert all(torch.equal(a, b) for a, b in zip([*rows[0][:2], rows[0][3]], shown, strict=True))
    saliency = study.compared(*SIMILAR[:2], [3], ["Saliency"])["Saliency"]
    assert torch.equal(rows[0][2], saliency[0])
    overlap = metrics.dice(metrics.binarise(maps["GSFT"]), explained.masks)[3]
    assert texts[0][:2] == ["", ""] and texts[0][3] in (f"{overlap:.2f}", "empty")

    rows, titles, texts = qualitative.analogies(study, SIMILAR, chosen["mnist"])
    assert [title.split("\n")[1] for title in titles] == [
        "vgg16, drawn, best",
        "vgg16, median",
        "vgg16, worst",
    ]
    marked = [metrics.binarise(maps[name][[3, 1, 0]]) for name in ("LSFT", "Grad-CAM")]
    assert torch.equal(torch.stack([row[4] for row in rows]).bool(), marked[0] & ~marked[1])
    additional = (
        qualitative.analogy(study, SIMILAR).query("method == 'LSFT'").set_index("image")["additional"]
    )
    expected = ["none" if np.isnan(additional[i]) else f"{additional[i]:+.2f}" for i in (3, 1, 0)]
    assert [line[4] for line in texts] == expected and {line[5] for line in texts} == {""}


def test_galleries_of_unseen_pairs_show_each_image_once(study):
    pair = ("tamil", "vgg19")
    scores = frames.nearest_truth(frames.overlaps(study, [(*pair, "dissimilar")]))
    rules = frames.by_rule(scores.query("method == 'LSFT'"), "dice", study.seed)
    wanted = list(dict.fromkeys([rules["drawn"], rules["median"]]))
    rows, titles, _ = qualitative.unseen(study, [(*pair, "dissimilar")], scores, ["LSFT"])
    assert len(rows) == len(titles) == len(wanted)
    lsft = {s: study.maps(*pair, s)["LSFT"][wanted] for s in ("similar", "dissimilar")}
    assert torch.equal(torch.stack([row[2] for row in rows]), lsft["dissimilar"])
    rows, _, _ = qualitative.strategies(study, [pair], scores)
    for column, strategy in ((3, "similar"), (4, "dissimilar")):
        assert torch.equal(torch.stack([row[column] for row in rows]), lsft[strategy])


def test_the_gallery_of_the_shortcut_says_what_both_cnns_predict(study):
    rows, titles, texts = shortcuts.shortcut(study, ["Saliency", "LSFT"], n=2, arch="vgg19")
    assert len(rows) == len(titles) == 2 and all(len(row) == 3 + 4 for row in rows)
    classes = study.image_data("ppmi", "vgg19").classes
    for cnn, of in shortcuts.TELLING.items():
        predicted = study.explained_images("ppmi", "vgg19", "test", of).predictions
        assert f"{cnn}: {classes[predicted[1]]}" in titles[1].split("\n")
    maps = study.maps("ppmi", "vgg19", "dissimilar", "ppmi_control")["LSFT"]
    assert torch.equal(rows[1][6], maps[1])
    share = (
        shortcuts.shortcuts(study, "vgg19")
        .query("cnn == 'honest' and method == 'LSFT' and region == 'patch' and image == 1")["share"]
        .item()
    )
    assert texts[1][6] == ("empty" if np.isnan(share) else f"{share:.2f}")


# Captions and surveys


def test_words_have_maps_and_roles(study):
    caption, maps = captioning.caption_maps(study, 0)
    assert set(maps) == {"Grad-CAM", "LSFT", "GSFT"}
    assert all(drawn.shape == (len(caption), 16, 16) for drawn in maps.values())
    frame = captioning.scores(study, 2)
    first = frame[(frame["image"] == 0) & (frame["method"] == "LSFT")]
    assert tuple(first["word"]) == caption
    np.testing.assert_allclose(first["intensity"], maps["LSFT"].mean((1, 2)), atol=1e-6)
    subject = study.captions().test.masks[:1]  # drawn at the size of the maps
    shares = [metrics.foreground_share(drawn[None], subject).item() for drawn in maps["LSFT"]]
    np.testing.assert_allclose(first["on the subject"], shares, atol=1e-6)
    for n in (0, 7, "two"):
        with pytest.raises(InputError, match="n_images is .*: give a number from 1 to 6"):
            captioning.scores(study, n)


def test_words_of_one_role_are_averaged():
    frame = pd.DataFrame({
        "image": [0, 0, 0, 1], "method": "LSFT", "role": ["other", "subject", "other", "verb"],
        "intensity": [0.1, 0.5, 0.3, 0.7], "on the subject": [np.nan, 0.6, np.nan, 0.2],
    }).assign(dataset="coco", data="d", arch="a")  # fmt: skip
    found = captioning.by_role(frame)
    assert found["role"].tolist() == ["subject", "verb", "other"], "in the order of captions.ROLES"
    np.testing.assert_allclose(found["intensity"], [0.5, 0.7, 0.2])
    np.testing.assert_allclose(found["on the subject"], [0.6, 0.2, np.nan])


def test_a_gallery_of_words_fills_short_captions_up(study):
    rows, titles, texts = captioning.word_maps(study, [0, 1])
    captions, maps = zip(*(captioning.caption_maps(study, i) for i in (0, 1)), strict=True)
    width = 1 + max(map(len, captions))
    assert titles == ["1, Grad-CAM", "1, LSFT", "2, Grad-CAM", "2, LSFT"]
    assert all(len(row) == len(line) == width for row, line in zip(rows, texts, strict=True))
    assert texts[3] == ["", *captions[1], *[""] * (width - 1 - len(captions[1]))]
    assert torch.equal(rows[3][1], maps[1]["LSFT"][0]) and torch.equal(rows[2][1], maps[1]["Grad-CAM"][0])
    assert torch.equal(rows[2][0], study.captions().test.batch(1)) and rows[2][0].shape == (3, 16, 16)


def test_survey_questions_are_spread_over_the_pairs(study):
    asked = survey.questions(study, ("LSFT", "Grad-CAM"), 5)
    assert len(asked) == 5 and all(list(q.maps) == ["LSFT", "Grad-CAM"] for q in asked)
    digits = [q for q in asked if q.caption in study.image_data("mnist").classes]
    assert len(digits) == 3
    images = study.explained_images(*SIMILAR[:2], "test").examples.images
    (first,) = [i for i, image in enumerate(images) if torch.equal(image, asked[0].image)]
    assert torch.equal(asked[0].maps["LSFT"], study.maps(*SIMILAR)["LSFT"][first])
    with pytest.raises(InputError, match="images for 12 of 13 questions: ask for fewer"):
        survey.questions(study, ("LSFT", "Grad-CAM"), 13)
    with pytest.raises(InputError, match="unknown method 'GradCAM': did you mean 'Grad-CAM'"):
        survey.questions(study, ("LSFT", "GradCAM"), 2)
    with pytest.raises(InputError, match="unknown task 'captions': did you mean 'captioning'"):
        survey.questions(study, ("LSFT", "Grad-CAM"), 2, "captions")


def test_accuracies_of_any_pairs(study):
    frame = frames.accuracies(study, [("tamil", "vgg19"), ("mnist", "vgg16")])
    assert frame["data"].tolist() == ["rendered Tamil vowels", "MNIST 5000"]
    assert frame["classes"].tolist() == [12, 10] and frame["test images"].tolist() == [24, 30]
    assert (frame["low"] <= frame["accuracy"]).all() and (frame["accuracy"] <= frame["high"]).all()


def test_where_the_object_is_not_known_grad_cam_is_the_truth():
    frame = pd.DataFrame({
        "dataset": ["a", "a", "b"], "truth": ["object", "Grad-CAM", "Grad-CAM"], "dice": [0.1, 0.2, 0.3],
    })  # fmt: skip
    assert frames.nearest_truth(frame)["dice"].tolist() == [0.1, 0.3]


@pytest.mark.parametrize(
    "call, sentence",
    [
        (
            lambda study: faithfulness.curves(study, [SIMILAR], steps=0),
            "steps is 0: give a whole number",
        ),
        (
            lambda study: noise.noise(study, [SIMILAR], [], 3),
            "the noise densities are .*: give a list such as",
        ),
        (lambda study: noise.noise(study, [SIMILAR], [0.1], 0), "n_images is 0: give a whole number"),
        (
            lambda study: survey.questions(study, ("LSFT", "Grad-CAM"), 0),
            "questions is 0: give a whole number",
        ),
    ],
)
def test_bad_counts_are_said(study, call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(study)
