"""Claims are judged by the criterion of `paper.verdict`, on their own data."""

import numpy as np
import pandas as pd
import pytest

from sftgan import InputError
from sftgan.companion.chapters import captioning, noise, relevance, shortcuts
from sftgan.companion.chapters import qualitative as qualitative_chapter
from sftgan.companion.chapters.qualitative import QUALITATIVE_ORDERINGS
from sftgan.companion.report import claims, statistics
from sftgan.companion.report.claims import Ordering
from sftgan.companion.report.statistics import verdict_between
from tests.frames import (
    beside_controls,
    confidences,
    relevances,
    roles_of_words,
    scores,
    seeded,
    shares,
    under_noise,
)


def test_orderings_are_judged_on_their_data_or_said_to_be_untestable():
    orderings = [
        Ordering("B above A", "Table 2", "dice", "B", "A", "strokes"),
        Ordering("A above B on the first", "Table 1", "dice", "A", "B", "strokes", "first"),
        Ordering("A above B on a third", "Table 1", "dice", "A", "B", "strokes", "third"),
    ]
    found = claims.judge(scores(), orderings)
    assert found["verdict"].tolist() == ["holds", "does not hold", "cannot be tested here"]
    assert found["data here"].tolist() == ["Second; First", "First", ""]
    assert found["n"].tolist()[:2] == [80, 40] and found["n"].isna().tolist() == [False, False, True]


def test_orderings_of_statistics_are_judged():
    orderings = [
        Ordering("B drops less", "Table 3", "average drop", "A", "B"),
        Ordering("B rises more", "Table 3", "average increase", "B", "A"),
    ]
    found = claims.judge(confidences(), orderings)
    assert found["verdict"].tolist() == ["holds", "cannot be tested here"], "nothing rises"


def risen(n: int):
    """Confidences of `confidences` of which B rises on the first n images, A and C on all."""
    frame = confidences()
    frame.loc[(frame["method"] != "B") | (frame["image"] < n), "O"] = frame["E"] + 0.1
    return frame


def test_a_statistic_of_few_images_is_not_judged():
    increase = [Ordering("A rises more", "Table 3", "average increase", "A", "B")]
    assert claims.judge(risen(4), increase)["verdict"].tolist() == ["cannot be tested here"]
    assert claims.judge(risen(5), increase)["verdict"].tolist() != ["cannot be tested here"]


def test_orderings_are_judged_group_by_group():
    frame = scores()
    orderings = [
        Ordering("B above A", "Table 2", "dice", "B", "A"),
        Ordering("A above B", "Table 2", "dice", "A", "B"),
    ]
    found = claims.judge(frame, orderings, by=["data"])
    assert found[["data", "claim", "verdict"]].values.tolist() == [
        ["Second", "B above A", "holds"], ["Second", "A above B", "does not hold"],
        ["First", "B above A", "holds"], ["First", "A above B", "does not hold"],
    ]  # fmt: skip
    first = claims.judge(frame[frame["data"] == "First"], orderings)
    assert (
        found["low"].tolist()[2:] == first["low"].tolist()
        and found["data here"].tolist()[2:] == ["First"] * 2
    )


def test_judged_claims_are_shown_with_intervals_as_text():
    frame = scores().query("dataset == 'first'")
    orderings = [
        Ordering("B above A", "Table 2", "dice", "B", "A"),
        Ordering("B above A on a third", "Table 1", "dice", "B", "A", None, "third"),
    ]
    judged = claims.judge(frame, orderings)
    table = claims.as_table(judged, digits=1)
    assert table.columns.tolist() == [
        "claim", "where", "data here", "comparison", "images", "difference", "interval", "effect size", "verdict",
    ]  # fmt: skip
    low, high = judged.loc[0, ["low", "high"]]
    assert table.loc[0, "interval"] == f"[{low:.1f},\xa0{high:.1f}]" and table.loc[0, "images"] == 40
    assert pd.isna(table.loc[1, "interval"]) and table.loc[1, "verdict"] == "cannot be tested here"
    assert claims.as_table(claims.judge(frame.iloc[:0], orderings))["interval"].isna().all()


def test_judged_claims_have_effect_sizes_and_holms_p_is_shown_as_text():
    found = claims.judge(scores(), [Ordering("B above A", "Table 2", "dice", "B", "A")])
    assert found.columns.tolist() == claims.COLUMNS and found.loc[0, "effect size"] > 5
    many = statistics.differences(scores(), "dice", "B", ["A"], by=["dataset"])
    table = claims.as_table(statistics.holm(many))
    assert table.columns.tolist()[-4:] == ["interval", "effect size", "p (Holm)", "verdict"]
    assert table["p (Holm)"].tolist() == ["0.001"] * 2 and "p" not in table


def test_claims_are_judged_over_seeds():
    claim = [Ordering("B above A", "Table 2", "dice", "B", "A")]
    found = claims.judge(seeded([0.3, 0.2, -0.4]), claim).iloc[0]
    assert found["verdict"] == "depends" and found["n"] == 240, "one training of three says the opposite"
    assert claims.judge(seeded([0.3, 0.2, 0.1]), claim)["verdict"].tolist() == ["holds"]


CONTROLS = ["luminance", "ones"]


def test_better_is_what_beats_the_best_control():
    methods = ["good", "middling", "level", "ones"]
    found = claims.against_best_control(beside_controls(), "dice", methods, CONTROLS, ["arch"])
    assert found["arch"].tolist() == ["net"] * 4 + ["other"] * 4 and found["method"].tolist() == methods * 2
    assert found["best control"].tolist() == ["ones", "ones", "ones", "luminance"] * 2, (
        "none is beside itself"
    )
    assert found["better than every control"].tolist()[:2] == ["yes", "no"]
    np.testing.assert_allclose(found["difference"], [0.1, -0.1, 0, 0.2] * 2, atol=0.02)
    expected = statistics.differences(beside_controls(), "dice", "good", ["ones"], by=["arch"])
    names = ["n", "difference", "low", "high", "p", "effect size"]
    assert found.loc[[0, 4], names].values.tolist() == expected[names].values.tolist()
    assert claims.as_table(statistics.holm(found)).columns.tolist() == [
        "arch", "method", "best control", "images", "difference", "interval", "effect size", "p (Holm)",
        "better than every control",
    ]  # fmt: skip


def test_where_the_interval_contains_zero_nothing_is_decided():
    frame = beside_controls()
    equal = frame["method"] == "level"
    noise = np.random.default_rng(1).normal(0, 0.02, equal.sum())
    frame.loc[equal, "dice"] = frame.loc[frame["method"] == "ones", "dice"].to_numpy() + noise - noise.mean()
    found = claims.against_best_control(frame, "dice", ["level"], CONTROLS, ["dataset"])
    assert found["better than every control"].tolist() == ["undecided"] and found["n"].tolist() == [50]


def test_lower_may_be_better():
    found = claims.against_best_control(
        beside_controls(), "dice", ["good", "middling"], [*CONTROLS, "level"], ["arch"], larger=False
    )
    assert set(found["best control"]) == {"luminance"} and (found["difference"] > 0).all()
    assert set(found["better than every control"]) == {"no"}
    found = claims.against_best_control(
        beside_controls(), "dice", ["middling"], ["ones"], ["arch"], larger=False
    )
    assert set(found["better than every control"]) == {"yes"} and (found["high"] < 0).all()


def test_statistics_are_compared_with_the_best_control_too():
    drop = claims.against_best_control(
        confidences(), "average drop", ["B"], ["A", "C"], ["arch"], larger=False
    )
    assert drop[["best control", "better than every control"]].values.tolist() == [["C", "yes"]]
    rise = claims.against_best_control(risen(4), "average increase", ["B"], ["A", "C"], ["arch"])
    assert rise["better than every control"].tolist() == ["cannot be tested here"]


def test_the_best_control_is_sought_among_those_that_are_known_everywhere():
    frame = beside_controls()
    with pytest.raises(InputError, match="unknown method 'one': did you mean 'ones'"):
        claims.against_best_control(frame, "dice", ["good"], ["one"], ["arch"])
    frame.loc[(frame["method"] == "luminance") & (frame["image"] == 0), "dice"] = np.nan
    with pytest.raises(InputError, match="dice is undefined for some images: drop them with .claims"):
        claims.against_best_control(frame, "dice", ["good"], CONTROLS, ["arch"])
    kept = claims.pairwise(frame, "dice", ["arch", "image"])
    assert claims.against_best_control(kept, "dice", ["good"], CONTROLS, ["arch"])["n"].tolist() == [49, 49]


def test_claims_are_listed_by_verdict_with_the_data_they_were_tested_on():
    orderings = [
        Ordering("B above A", "Table 2", "dice", "B", "A"),
        Ordering("B above A on MNIST", "Table 1", "dice", "B", "A", None, "first"),
        Ordering("A above B on EMNIST", "Table 1", "dice", "A", "B", None, "third"),
    ]
    found = claims.by_verdict(claims.judge(scores(), orderings), orderings)
    assert found == {
        "holds": "B above A; B above A on MNIST (here on First)",
        "does not hold": "none",
        "depends": "none",
        "cannot be tested here": "A above B on EMNIST",
    }


def test_claims_on_words_put_the_papers_first():
    found = captioning.word_claims(roles_of_words())
    paper = found[found["who says so"] == "the paper (4.3.7)"]
    assert paper.index.tolist() == [0, 1] and paper["verdict"].tolist() == ["holds", "holds"]
    np.testing.assert_allclose(paper["difference"], [0.1, 0.2], atol=0.01)
    assert paper["comparison"].tolist() == [
        "LSFT (subject) − LSFT (verb)",
        "LSFT (subject) − Grad-CAM (subject)",
    ]
    assert set(found["who says so"][2:]) == {"beyond the paper"} and found["n"].eq(20).all()
    own = found[found["claim"] == "LSFT marks the subject more for its own word than for the second noun"]
    assert own["verdict"].tolist() == ["holds"] and own["difference"].item() == pytest.approx(0.2, abs=0.01)
    assert (found["data here"] == "captioned scenes").all()


def test_words_noise_and_relevance_tell_seeds_apart():
    """Two trainings that agree: twice the images, the same difference."""
    for judge, frame in (
        (captioning.word_claims, roles_of_words()),
        (noise.noise_claims, under_noise([0.05, 0.25])),
        (relevance.relevance_claims, relevances()),
        (relevance.blackout_claims, relevances()),
    ):
        one, two = judge(frame), judge(pd.concat([frame.assign(seed=s) for s in (0, 1)], ignore_index=True))
        assert two["n"].tolist() == (2 * one["n"]).tolist()
        value = "first half" if "first half" in one else "difference"
        np.testing.assert_allclose(two[value], one[value], atol=1e-12)


def test_claims_on_words_are_tested_where_both_roles_are_and_the_place_is_known():
    frame = roles_of_words(known=False)
    frame = frame[~((frame["role"] == "verb") & (frame["image"] < 5)) & (frame["role"] != "second noun")]
    found = captioning.word_claims(frame).set_index("comparison")
    assert found.loc["LSFT (subject) − LSFT (verb)", "n"] == 15
    for comparison in ("LSFT (subject) − Grad-CAM (subject)", "LSFT (second noun) − LSFT (verb)"):
        assert found.loc[comparison, "verdict"] == "cannot be tested here" and pd.isna(
            found.loc[comparison, "n"]
        )


# Noise


def test_levels_and_slopes_are_judged_over_the_densities_of_the_paper():
    measured = under_noise([0.0, 0.01, 0.05, 0.25, 0.45])
    extreme = measured["density"] < 0.05  # not judged, however it looks
    measured.loc[extreme & (measured["method"] == "GSFT"), ["background", "foreground share"]] = 9.0
    found = noise.noise_claims(measured)
    assert set(found["densities"]) == {"0.05, 0.25, 0.45"}
    similar, dissimilar = (part for _, part in found.groupby("strategy", sort=False))
    assert similar["verdict"].tolist() == ["holds", "holds", "does not hold", "holds", "holds"]
    np.testing.assert_allclose(similar["difference"], [0.1 + 0.4 * 0.25, 0.1, -0.075, 0.4, 0.2], atol=1e-9)
    assert dissimilar["verdict"].tolist()[-2:] == ["does not hold"] * 2 and set(similar["n"]) == {12}
    assert similar["claim"].str.contains("widens|vanish faster").tolist() == [False] * 3 + [True] * 2
    assert set(dissimilar["data here"]) == {"CIFAR10"}


@pytest.mark.parametrize(
    "densities, named, untested",
    [([0.0, 0.02, 0.04], "no density from 0.05 to 0.5", 5), ([0.02, 0.05], "0.05", 2)],
)
def test_densities_that_the_paper_does_not_have_leave_claims_untested(densities, named, untested):
    found = noise.noise_claims(under_noise(densities))
    assert set(found["densities"]) == {named} and len(found) == 10
    for _, part in found.groupby("strategy"):
        assert (part["verdict"] == claims.UNTESTED).tolist() == [k >= 5 - untested for k in range(5)]
    assert "verdict" in claims.as_table(found), "it can be shown all the same"


def test_slopes_are_least_squares():
    measured = under_noise([0.1, 0.2, 0.4], n=1)
    one = (measured["method"] == "LSFT") & (measured["strategy"] == "similar")
    measured.loc[one, "background"] = [0.0, 1.0, 0.5]
    found = noise.slopes_by_density(measured).query("method == 'LSFT' and strategy == 'similar'").iloc[0]
    assert found["background"] == pytest.approx(np.polyfit([0.1, 0.2, 0.4], [0.0, 1.0, 0.5], 1)[0])
    assert found["foreground share"] == pytest.approx(-0.1)


# Relevance


@pytest.mark.parametrize("eta", [8, 7, 1])
def test_the_first_half_of_equal_cgmas_has_half_of_the_relevance(eta):
    lsft = relevances(eta).query("method == 'LSFT'")
    found = relevance.first_half(lsft, "relevance", ["image"])
    assert len(found) == 12 and found["first half"].tolist() == pytest.approx([0.5] * 12)
    assert relevance.first_half(lsft.assign(relevance=0.0), "relevance", ["image"])["first half"].isna().all()


def test_equal_importance_is_judged_for_each_generator_and_replacement_the_papers_first():
    found = relevance.relevance_claims(relevances())
    assert found["who says so"].tolist() == ["the paper (5.3)"] + ["beyond the paper"] * 3
    assert found["replacement"].tolist() == ["zeros", "mean", "zeros", "mean"]
    verdicts = dict(zip(found["claim"].str[:4], found["verdict"], strict=True))
    assert verdicts == {"LSFT": "holds", "GSFT": "does not hold"}
    assert found.loc[0, "first half"] == pytest.approx(0.5)
    assert set(found["data here"]) == {"letters, xception"}


def test_published_relevance_is_that_of_the_figure():
    published = relevance.published_relevance()
    assert len(published) == 9 * 8 and published["share"].max() == pytest.approx(100 * 6080 / (3 * 64 * 64))
    halves = relevance.first_half(published, "share", ["pair", "image"]).set_index(["pair", "image"])
    third = halves.loc[("Musical Instruments, VGG19", "3"), "first half"]
    assert third == pytest.approx(19890 / (19890 + 5360 + 4610 + 5500 + 4240))


def test_what_a_map_loses_is_judged():
    measured = relevances()
    undefined = (measured["image"] == 3) & (measured["method"] == "LSFT")
    measured.loc[undefined, "foreground share lost"] = np.nan
    found = relevance.blackout_claims(measured)
    papers = found[found["who says so"] == "the paper (5.3)"]
    assert papers["verdict"].tolist() == ["holds"] * 4 and found.index[:4].equals(papers.index)
    expected = [0.3, 0.02, 0.3 / 4, 0.02]
    assert papers["difference"].tolist() == pytest.approx(expected, rel=0.1)
    assert papers["n"].tolist() == [12, 11, 12, 11] and papers["left out"].tolist() == [0, 1, 0, 1]
    gsft = found[found["method"] == "GSFT"]
    assert gsft["verdict"].tolist() == ["does not hold"] * 8, "it loses nothing"


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0.4, 0.6, "holds"),
        (0.45, 0.5, "holds"),
        (0.1, 0.39, "does not hold"),
        (0.61, 0.7, "does not hold"),
        (0.39, 0.5, "depends"),
        (0.5, 0.61, "depends"),
        (0.1, 0.9, "depends"),
        (float("nan"), float("nan"), "depends"),
    ],
)
def test_verdict_between(low, high, expected):
    assert verdict_between(low, high, 0.4, 0.6) == expected


# Pictures with numbers beside them (4.3)


def test_a_mean_is_judged_over_the_images_for_which_it_is_defined():
    frame = pd.DataFrame({
        "method": ["A"] * 4 + ["B"] * 4 + ["C"] * 4, "image": [0, 1, 2, 3] * 3, "dataset": "d",
        "value": [0.2, 0.3, 0.4, np.nan, -0.1, -0.2, -0.1, -0.2, *[np.nan] * 4],
    })  # fmt: skip
    found = claims.above_zero(frame, "value", ["method"]).set_index("method")
    assert found["verdict"].to_dict() == {"A": "holds", "B": "does not hold", "C": "cannot be tested here"}
    assert found["left out"].tolist() == [1, 0, 4] and found["n"].tolist()[:2] == [3, 4]
    assert found.loc["A", "difference"] == pytest.approx(0.3) and 0.2 <= found.loc["A", "low"] < 0.3
    assert claims.as_table(found.reset_index().assign(claim="c", comparison="v"))["images"].isna().sum() == 1


def test_images_are_left_out_in_pairs():
    frame = pd.DataFrame({"cnn": [*"aabb"], "image": [0, 1, 0, 1], "share": [0.1, np.nan, 0.3, 0.4]})
    assert claims.pairwise(frame, "share", ["image"])["share"].tolist() == [0.1, 0.3]
    assert claims.pairwise(frame, "share", ["cnn", "image"])["share"].tolist() == [0.1, 0.3, 0.4]
    two = pd.concat([frame.assign(seed=0), frame.assign(seed=1).fillna(0.2)])
    assert claims.pairwise(two, "share", ["image"])["share"].tolist() == [0.1, 0.3, 0.1, 0.2, 0.3, 0.4]


def test_methods_that_point_at_the_patch_tell_the_cnns_apart():
    frame = shares({"LSFT": 0.1, "Grad-CAM": 0.0})
    found = shortcuts.between_cnns(frame).set_index(["region", "method"])
    assert set(found.index.get_level_values("method")) == {"LSFT", "Grad-CAM", "mean map"}
    for region in ("patch", "object"):
        assert found.loc[(region, "LSFT"), "difference"] == pytest.approx(0.1, abs=0.01), "of opposite sign"
        assert found.loc[(region, "LSFT"), "verdict"] == "holds"
        assert found.loc[(region, "Grad-CAM"), "verdict"] != "holds"
    assert found.loc[("patch", "LSFT"), "comparison"] == "shortcut − honest"
    assert found.loc[("object", "LSFT"), "comparison"] == "honest − shortcut"
    frame.loc[(frame["method"] == "LSFT") & (frame["cnn"] == "honest") & (frame["image"] < 5), "share"] = (
        np.nan
    )
    assert shortcuts.between_cnns(frame).set_index(["region", "method"]).loc[("patch", "LSFT"), "n"] == 35


def test_what_is_about_the_image_is_what_goes_beyond_the_mean_map():
    found = shortcuts.beyond_mean_map(shares({"LSFT": 0.1, "Saliency": 0.05})).set_index(
        ["cnn", "comparison"]
    )
    assert found["verdict"]["shortcut"].to_dict() == {
        "LSFT − mean map": "holds", "Saliency − mean map": "holds",
    }  # fmt: skip
    assert found.loc[("shortcut", "LSFT − mean map"), "difference"] == pytest.approx(0.1, abs=0.01)
    assert abs(found.loc[("honest", "LSFT − mean map"), "difference"]) < 0.01


@pytest.mark.parametrize(
    "more, verdicts",
    [
        ({"LSFT": 0.2, "Grad-CAM": 0.1}, ["holds", "holds", "holds"]),
        ({"LSFT": 0.1, "Grad-CAM": 0.2}, ["holds", "holds", "does not hold"]),
        ({"LSFT": 0.2, "Grad-CAM": -0.1}, ["cannot be tested here"] * 2 + ["holds"]),
        ({"LSFT": -0.1, "Grad-CAM": -0.2}, ["cannot be tested here"] * 3),
    ],
)
def test_what_a_map_says_of_the_background_needs_a_positive_control(more, verdicts):
    found = shortcuts.shortcut_claims(shares(more))
    order = [
        found["claim"].str.startswith(start).idxmax()
        for start in ("LSFT marks", "Grad-CAM marks", "LSFT finds")
    ]
    assert found.loc[order, "verdict"].tolist() == verdicts
    assert found["difference"].notna().all(), "the numbers stand, whatever can be said of them"
    assert set(found["data here"]) == {"telling scenes"}


def test_without_a_map_of_the_shortcut_cnn_there_is_no_verdict():
    frame = shares({"LSFT": 0.2, "Grad-CAM": 0.1})
    frame.loc[frame["method"] == "LSFT", ["share", "beyond"]] = np.nan
    found = shortcuts.shortcut_claims(frame).set_index("claim")["verdict"]
    assert found["LSFT marks the background that the CNN uses"] == "cannot be tested here"
    assert found["Grad-CAM marks the background that the CNN uses"] == "holds"
    assert found.iloc[-1] == "cannot be tested here", "no image has both maps"


def qualitative(dataset="mnist"):
    """Frames in which LSFT has a little more of everything than Grad-CAM, and dissimilar more than similar."""
    rng = np.random.default_rng(0)

    def frame(methods, data, **measures):
        rows = [
            {"method": m, "image": i, "dataset": d, "data": d.title(), "arch": "net"}
            | {name: level + 0.1 * k + 0.01 * rng.normal() for name, level in measures.items()}
            for d in data for k, m in enumerate(methods) for i in range(20)
        ]  # fmt: skip
        return pd.DataFrame(rows)

    two, trained = ("Grad-CAM", "LSFT"), ("trained on similar", "trained on dissimilar")
    scores = frame(trained, ("cats_vs_dogs", "tamil"), dice=0.5, marked=0.3)
    return {
        "likeness": frame(two, (dataset,), additional=0.1, SSIM=0.2, **{"rank correlation": 0.3}),
        "unseen": frame(two, ("emnist", "cats_vs_dogs", "instruments"), dice=0.5).assign(truth="object"),
        "intensity": frame(two, ("emnist", "instruments"), intensity=0.5),
        "strategies": pd.concat([scores.assign(truth=truth) for truth in ("object", "Grad-CAM")]),
    }


def test_every_claim_on_the_pictures_is_judged_on_its_own_data():
    frames = qualitative()
    found = qualitative_chapter.qualitative_claims(frames, shares({"LSFT": 0.2, "Grad-CAM": 0.1}))
    assert len(found) == 1 + sum(map(len, QUALITATIVE_ORDERINGS.values())) + 3
    by_claim = found.set_index("claim")
    wrong = by_claim.index[by_claim["verdict"] != "holds"].tolist()
    assert wrong == ["Grad-CAM is better than LSFT on Musical Instruments (Dice with the object)"]
    (tamil,) = found.index[found["claim"].str.contains("Tamil")]
    assert found.loc[tamil, "data here"] == "Tamil" and found.loc[tamil, "n"] == 20
    assert found["where"].str.match(r"section (1|4\.3\.\d)$").all()


def test_claims_on_data_that_a_run_does_not_have_cannot_be_tested():
    frames = qualitative("emnist")
    frames["unseen"] = frames["unseen"][frames["unseen"]["dataset"] != "instruments"]
    found = qualitative_chapter.qualitative_claims(frames, shares({"LSFT": 0.2, "Grad-CAM": 0.1}))
    untested = found[found["verdict"] == "cannot be tested here"]
    assert untested["claim"].str.contains("Saliency|Instruments").all() and len(untested) == 5
