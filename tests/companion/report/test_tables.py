"""Views of tidy frames: groups keep their order, differences are paired, verdicts follow the interval."""

import numpy as np
import pandas as pd
import pytest

from sftgan import InputError, metrics
from sftgan.companion.report import statistics, tables
from tests.frames import confidences, scores, seeded


def test_means_keep_the_order_of_appearance_and_contain_the_mean():
    found = statistics.means(scores(), "dice", ["dataset", "method"])
    assert found[["dataset", "method"]].values.tolist() == [
        ["second", "A"], ["second", "B"], ["first", "A"], ["first", "B"],
    ]  # fmt: skip
    assert (found["n"] == 40).all()
    assert ((found["low"] < found["mean"]) & (found["mean"] < found["high"])).all()
    expected = scores().query("dataset == 'first' and method == 'B'")["dice"].mean()
    assert found["mean"].iloc[-1] == pytest.approx(expected)


def test_differences_are_paired_so_that_a_small_constant_shift_is_seen():
    found = statistics.differences(scores(0.2), "dice", "B", ["A"]).iloc[0]
    assert found["comparison"] == "B − A" and found["n"] == 80
    assert found["difference"] == pytest.approx(0.2, abs=0.01)
    assert found["high"] - found["low"] < 0.02  # unpaired it would be above 0.5
    assert found["verdict"] == "holds"
    assert statistics.differences(scores(0.2), "dice", "A", ["B"]).iloc[0]["verdict"] == "does not hold"
    assert statistics.differences(scores(0.0), "dice", "B", ["A"]).iloc[0]["verdict"] == "depends"


def test_differences_by_group():
    found = statistics.differences(scores(), "dice", "B", ["A"], by=["dataset"])
    assert found["dataset"].tolist() == ["second", "first"] and (found["n"] == 40).all()


def test_an_unknown_method_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="unknown method 'AA': did you mean 'A'"):
        statistics.differences(scores(), "dice", "AA", ["B"])


def test_text_with_intervals():
    frame = pd.DataFrame({"mean": [0.314], "low": [0.29], "high": [0.3333]})
    assert tables.with_intervals(frame).tolist() == ["0.31\xa0[0.29,\xa00.33]"]
    assert tables.with_intervals(frame * 100, digits=0).tolist() == ["31\xa0[29,\xa033]"]
    assert tables.with_intervals(frame.assign(low=np.nan, high=np.nan)).tolist() == ["0.31"]


def test_means_of_several_columns_as_text():
    frame = scores().assign(double=lambda f: 2 * f["dice"])
    found = tables.means_as_text(frame, ["dice", "double"], ["dataset", "method"], digits=1)
    assert found[["dataset", "method"]].values.tolist()[1:3] == [["second", "B"], ["first", "A"]]
    for value in ("dice", "double"):
        part = statistics.means(frame, value, ["dataset", "method"])
        assert found[value].tolist() == tables.with_intervals(part, digits=1).tolist()


def test_shown_tables_are_the_same_in_every_run_and_have_no_index_column():
    frame = pd.DataFrame({"a": [1.23456, np.nan], "b": ["x", "y"]})
    html = tables.show(frame).to_html()
    assert html == tables.show(frame.copy()).to_html()
    assert "1.23<" in html and "–" in html and "row_heading" not in html
    other = tables.show(frame.rename(columns={"a": "c"})).to_html()
    assert html.split('id="T_')[1][:8] != other.split('id="T_')[1][:8]


def test_captions_stand_in_the_table():
    assert (
        "<caption>All of it.</caption>"
        in tables.show(pd.DataFrame({"a": [1]}), caption="All of it.").to_html()
    )
    assert "<caption" not in tables.show(pd.DataFrame({"a": [1]})).to_html()


def test_provenance_is_flattened():
    html = tables.provenance_table(
        {"seed": 0, "overrides": {}, "hardware": {"cores": 2, "gpu": None}}
    ).to_html()
    assert "cores 2" in html and "gpu" not in html and "none" in html


def test_a_statistic_may_stand_for_the_mean():
    frame = confidences()
    found = statistics.means(frame, ["E", "O"], ["method"], metrics.average_drop).set_index("method")
    part = frame[frame["method"] == "A"]
    assert found.loc["A", "mean"] == pytest.approx(100 * (part["E"] - part["O"]).sum() / part["E"].sum())
    assert found.loc["A", "low"] < found.loc["A", "mean"] < found.loc["A", "high"]
    gap = statistics.differences(frame, ["E", "O"], "A", ["B"], statistic=metrics.average_drop).iloc[0]
    assert gap["difference"] == pytest.approx(found.loc["A", "mean"] - found.loc["B", "mean"])
    assert gap["verdict"] == "holds" and gap["low"] < gap["difference"] < gap["high"]


def test_margins_count_ties_for_nobody():
    frame = confidences()
    means = frame.assign(margin=statistics.margins(frame, "O", "A")).groupby("method")["margin"].mean()
    assert means.to_dict() == {"A": 0, "B": 100, "C": 50}


def test_the_rows_of_one_image_are_drawn_together():
    """Three CNNs that say the same of each image are no more evidence than one."""
    one = scores(0.0)
    three = pd.concat([one.assign(arch=arch) for arch in ("net", "other", "third")], ignore_index=True)
    for frame in (one, three):
        assert statistics.means(frame, "dice", ["method"])["n"].tolist() == [80, 80]
    found, expected = (statistics.differences(f, "dice", "B", ["A"]).iloc[0] for f in (three, one))
    assert found["n"] == 80
    assert found["low"] == pytest.approx(expected["low"]) and found["high"] == pytest.approx(expected["high"])
    half = three[(three["arch"] == "net") | (three["image"] < 20)]
    with pytest.raises(InputError, match="some images have 1 rows and others 3: leave out"):
        statistics.means(half, "dice", ["method"])


def test_margins_count_wins_and_losses():
    frame = scores(0.2).query("dataset == 'first' and image < 3").copy()
    frame.loc[(frame["method"] == "B") & (frame["image"] == 0), "dice"] -= 1  # loses
    a = frame[(frame["method"] == "A") & (frame["image"] == 1)]["dice"].item()
    frame.loc[(frame["method"] == "B") & (frame["image"] == 1), "dice"] = a  # draws
    found = statistics.margins(frame, "dice", "A")
    assert found[frame["method"] == "B"].tolist() == [-100, 0, 100]
    assert found[frame["method"] == "A"].tolist() == [0, 0, 0]
    with pytest.raises(InputError, match="unknown method 'AA': did you mean 'A'"):
        statistics.margins(frame, "dice", "AA")


def test_spread_has_a_column_for_each_method():
    found = tables.spread(scores(), "dice", ["dataset"], "method", digits=1)
    assert found.columns.tolist() == ["dataset", "A", "B"]
    assert found["dataset"].tolist() == ["second", "first"]
    one = statistics.means(scores(), "dice", ["dataset", "method"])
    assert found.loc[1, "B"] == tables.with_intervals(one, digits=1)[3]


def test_what_is_left_out_is_counted_in_images():
    frame = scores()
    kept = frame[(frame["dataset"] == "second") | (frame["image"] > 2)]
    assert tables.left_out(frame, kept) == "3 of 80 images"
    assert tables.left_out(frame, frame) == "0 of 80 images"


def test_images_are_counted_over_seeds_and_paired_within_them():
    frame = seeded([0.1, 0.2, 0.3])
    found = statistics.differences(frame, "dice", "B", ["A"]).iloc[0]
    assert found["n"] == 240 and found["difference"] == pytest.approx(0.2, abs=0.01)
    assert found["low"] == pytest.approx(0.1, abs=0.02) and found["high"] == pytest.approx(0.3, abs=0.02)
    pooled = statistics.differences(
        frame.assign(image=frame["image"] + 100 * frame.pop("seed")), "dice", "B", ["A"]
    ).iloc[0]
    assert pooled["n"] == 240 and pooled["high"] - pooled["low"] < 0.03, (
        "seeds that differ are what widens it"
    )
    assert statistics.means(seeded([0.1, 0.2]), "dice", ["method"])["n"].tolist() == [160, 160]
    assert statistics.means(seeded([0.1, 0.2]), "dice", ["seed", "method"])["n"].tolist() == [80] * 4


def test_one_seed_is_as_none():
    frame = scores(0.2)
    for name, rest in (("means", (["dataset", "method"],)), ("differences", ("B", ["A"]))):
        view = getattr(statistics, name)
        pd.testing.assert_frame_equal(view(frame.assign(seed=7), "dice", *rest), view(frame, "dice", *rest))


def test_margins_and_what_is_left_out_know_the_seed():
    frame = seeded([0.2, -0.2])
    found = frame.assign(margin=statistics.margins(frame, "dice", "A"))
    assert found[found["method"] == "B"].groupby("seed")["margin"].unique().map(list).tolist() == [
        [100],
        [-100],
    ]
    kept = frame[(frame["seed"] == 0) | (frame["image"] > 2)]
    assert tables.left_out(frame, kept) == "6 of 160 images"


def paired(differences, archs=("net",)):
    """Method B is A plus `differences` (archs, images)."""
    rows = []
    for arch, of_images in zip(archs, np.atleast_2d(differences), strict=True):
        for image, value in enumerate(of_images):
            rows += [[arch, "A", image, 1.0], [arch, "B", image, 1 + value]]
    return pd.DataFrame(rows, columns=["arch", "method", "image", "dice"]).assign(dataset="d")


def test_the_effect_size_is_cohens_of_paired_images():
    one = statistics.differences(paired([1.0, 2.0, 3.0, 6.0]), "dice", "B", ["A"]).iloc[0]
    assert one["effect size"] == pytest.approx(3 / np.sqrt(14 / 3))  # deviations -2, -1, 0, 3
    assert statistics.differences(paired([1.0, 2.0, 3.0, 6.0]), "dice", "A", ["B"])["effect size"].item() < 0
    cnns = paired([[0.0, 1.0, 2.0, 5.0], [2.0, 3.0, 4.0, 7.0]], archs=("net", "other"))
    assert statistics.differences(cnns, "dice", "B", ["A"])["effect size"].item() == pytest.approx(
        one["effect size"]
    )


def test_there_is_no_effect_size_without_spread_or_of_another_statistic():
    assert np.isnan(statistics.differences(paired([0.1, 0.1, 0.1]), "dice", "B", ["A"])["effect size"].item())
    found = statistics.differences(confidences(), ["E", "O"], "A", ["B"], statistic=metrics.average_drop)
    assert np.isnan(found["effect size"].item()) and found["p"].item() == 1 / 2000


def judged(p, low, high, verdict):
    return pd.DataFrame({"p": p, "low": low, "high": high, "verdict": verdict})


def test_holm_is_as_in_the_textbook():
    found = statistics.holm(judged([0.01, 0.04, 0.03, 0.005], 0.1, 0.2, "holds"))
    assert found["p (Holm)"].tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert found["verdict"].tolist() == ["holds", "depends", "depends", "holds"]


def test_holm_turns_no_verdict_but_those_of_intervals_without_zero():
    frame = judged(
        [0.03, 0.04, 0.9, np.nan, 1.0], [0.1, -0.2, -1.0, np.nan, 0.0], [0.2, -0.1, 1.0, np.nan, 0.0],
        ["holds", "does not hold", "depends", "cannot be tested here", "does not hold"],
    )  # fmt: skip
    found = statistics.holm(frame)
    assert found["verdict"].tolist() == [
        "depends", "depends", "depends", "cannot be tested here", "does not hold"
    ]  # fmt: skip
    assert found["p (Holm)"].isna().tolist() == [False] * 3 + [True, False], (
        "what was not tested counts for nothing"
    )
    assert found.loc[0, "p (Holm)"] == pytest.approx(4 * 0.03)
    assert "p (Holm)" not in frame and frame.loc[0, "verdict"] == "holds"
    with pytest.raises(InputError, match="unknown column 'p'"):
        statistics.holm(frame.drop(columns="p"))


def test_what_is_said_of_one_pair_may_not_be_said_of_the_best_of_many():
    """Of forty methods that are no better than A, the interval of some excludes zero; none survives."""
    rng = np.random.default_rng(6)
    methods = ["A", *(f"m{k}" for k in range(40))]
    frames = [pd.DataFrame({"method": m, "image": range(40), "dice": rng.normal(size=40)}) for m in methods]
    frame = pd.concat(frames, ignore_index=True).assign(dataset="d", arch="net")
    table = pd.concat(
        [statistics.differences(frame, "dice", m, ["A"]) for m in methods[1:]], ignore_index=True
    )
    assert (table["verdict"] != "depends").any()
    assert (statistics.holm(table)["verdict"] == "depends").all()
