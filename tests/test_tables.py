"""Views of tidy frames: groups keep their order, differences are paired, verdicts follow the interval."""

import numpy as np
import pandas as pd
import pytest

from sftgan import InputError, metrics, tables
from sftgan.paper import Ordering


def scores(shift=0.2, n=40):
    """Method B is A plus `shift` with a little noise, on two data sets with different levels."""
    rng = np.random.default_rng(0)
    rows = []
    for level, dataset in ((5.0, "second"), (0.0, "first")):
        base = level + rng.normal(size=n)
        for method, values in {"A": base, "B": base + shift + 0.01 * rng.normal(size=n)}.items():
            for image, value in enumerate(values):
                rows.append([dataset, dataset.title(), "net", method, "strokes", image, value])
    columns = ["dataset", "data", "arch", "method", "truth", "image", "dice"]
    return pd.DataFrame(rows, columns=columns)


def test_means_keep_the_order_of_appearance_and_contain_the_mean():
    found = tables.means(scores(), "dice", ["dataset", "method"])
    assert found[["dataset", "method"]].values.tolist() == [
        ["second", "A"], ["second", "B"], ["first", "A"], ["first", "B"],
    ]  # fmt: skip
    assert (found["n"] == 40).all()
    assert ((found["low"] < found["mean"]) & (found["mean"] < found["high"])).all()
    expected = scores().query("dataset == 'first' and method == 'B'")["dice"].mean()
    assert found["mean"].iloc[-1] == pytest.approx(expected)


def test_differences_are_paired_so_that_a_small_constant_shift_is_seen():
    found = tables.differences(scores(0.2), "dice", "B", ["A"]).iloc[0]
    assert found["comparison"] == "B − A" and found["n"] == 80
    assert found["difference"] == pytest.approx(0.2, abs=0.01)
    assert found["high"] - found["low"] < 0.02  # unpaired it would be above 0.5
    assert found["verdict"] == "holds"
    assert tables.differences(scores(0.2), "dice", "A", ["B"]).iloc[0]["verdict"] == "does not hold"
    assert tables.differences(scores(0.0), "dice", "B", ["A"]).iloc[0]["verdict"] == "depends"


def test_differences_by_group():
    found = tables.differences(scores(), "dice", "B", ["A"], by=["dataset"])
    assert found["dataset"].tolist() == ["second", "first"] and (found["n"] == 40).all()


def test_an_unknown_method_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="unknown method 'AA': did you mean 'A'"):
        tables.differences(scores(), "dice", "AA", ["B"])


def test_orderings_are_judged_on_their_data_or_said_to_be_untestable():
    orderings = [
        Ordering("B above A", "Table 2", "dice", "B", "A", "strokes"),
        Ordering("A above B on the first", "Table 1", "dice", "A", "B", "strokes", "first"),
        Ordering("A above B on a third", "Table 1", "dice", "A", "B", "strokes", "third"),
    ]
    found = tables.judge(scores(), orderings)
    assert found["verdict"].tolist() == ["holds", "does not hold", "cannot be tested here"]
    assert found["data here"].tolist() == ["all", "First", ""]
    assert found["n"].tolist()[:2] == [80, 40] and found["n"].isna().tolist() == [False, False, True]


def test_first_to_reach_counts_from_the_best_of_all_curves():
    curves = {
        "slow": pd.DataFrame({"epoch": [0, 1, 2], "step": [0, 10, 20], "dice": [0.1, 0.5, 0.8]}),
        "fast": pd.DataFrame({"epoch": [0, 1, 2], "step": [0, 30, 60], "dice": [0.1, 0.95, 1.0]}),
    }
    found = tables.first_to_reach(curves, "dice", share=0.9)
    assert found["goal"].tolist() == [0.9, 0.9] and found["steps"].tolist() == [20, 60]
    assert pd.isna(found.loc[0, "epoch"]) and (found.loc[1, "epoch"], found.loc[1, "step"]) == (1, 30)


def test_sooner_judges_only_what_both_curves_can_show():
    def row(epoch, epochs):
        return pd.Series({"epoch": epoch, "epochs": epochs})

    assert tables.sooner(row(2, 6), row(3, 6), "epoch") == "holds"
    assert tables.sooner(row(2, 6), row(pd.NA, 6), "epoch") == "holds"
    assert tables.sooner(row(3, 6), row(3, 6), "epoch") == "does not hold"
    assert tables.sooner(row(pd.NA, 6), row(3, 6), "epoch") == "does not hold"
    assert tables.sooner(row(5, 6), row(pd.NA, 3), "epoch") == "cannot be tested here"
    assert tables.sooner(row(pd.NA, 2), row(5, 6), "epoch") == "cannot be tested here"
    assert tables.sooner(row(pd.NA, 6), row(pd.NA, 6), "epoch") == "cannot be tested here"


def test_text_with_intervals():
    frame = pd.DataFrame({"mean": [0.314], "low": [0.29], "high": [0.3333]})
    assert tables.with_intervals(frame).tolist() == ["0.31\xa0[0.29,\xa00.33]"]
    assert tables.with_intervals(frame * 100, digits=0).tolist() == ["31\xa0[29,\xa033]"]


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


def confidences(n=60):
    """Method B keeps more of the confidence than A; C is B on every second image and A on the others."""
    rng = np.random.default_rng(0)
    original = rng.uniform(0.5, 1, n)
    lost = {"A": rng.uniform(0.2, 0.3, n), "B": rng.uniform(0.05, 0.1, n)}
    lost["C"] = np.where(np.arange(n) % 2, lost["A"], lost["B"])
    frames = [
        pd.DataFrame({"E": original, "O": original - part, "method": name, "image": range(n)})
        for name, part in lost.items()
    ]
    return pd.concat(frames, ignore_index=True).assign(dataset="d", arch="a", data="D")


def test_a_statistic_may_stand_for_the_mean():
    frame = confidences()
    found = tables.means(frame, ["E", "O"], ["method"], metrics.average_drop).set_index("method")
    part = frame[frame["method"] == "A"]
    assert found.loc["A", "mean"] == pytest.approx(100 * (part["E"] - part["O"]).sum() / part["E"].sum())
    assert found.loc["A", "low"] < found.loc["A", "mean"] < found.loc["A", "high"]
    gap = tables.differences(frame, ["E", "O"], "A", ["B"], statistic=metrics.average_drop).iloc[0]
    assert gap["difference"] == pytest.approx(found.loc["A", "mean"] - found.loc["B", "mean"])
    assert gap["verdict"] == "holds" and gap["low"] < gap["difference"] < gap["high"]


def test_orderings_of_statistics_are_judged():
    orderings = [
        Ordering("B drops less", "Table 3", "average drop", "A", "B"),
        Ordering("B rises more", "Table 3", "average increase", "B", "A"),
    ]
    found = tables.judge(confidences(), orderings)
    assert found["verdict"].tolist() == ["holds", "does not hold"], "nothing rises"


def test_wins_count_ties_for_nobody():
    found = tables.wins(confidences(), "O", ["B", "C", "A"], against="A").set_index("method")
    assert found.loc["B", ["win", "tie", "loss"]].tolist() == [100, 0, 0]
    assert found.loc["C", ["win", "tie", "loss"]].tolist() == [50, 50, 0]
    assert found.loc["A", ["win", "tie", "loss"]].tolist() == [0, 100, 0]
    assert found.loc["C", "low"] < 50 < found.loc["C", "high"]


def test_the_rows_of_one_image_are_drawn_together():
    """Three CNNs that say the same of each image are no more evidence than one."""
    one = scores(0.0)
    three = pd.concat([one.assign(arch=arch) for arch in ("net", "other", "third")], ignore_index=True)
    for frame in (one, three):
        assert tables.means(frame, "dice", ["method"])["n"].tolist() == [80, 80]
    found, expected = (tables.differences(f, "dice", "B", ["A"]).iloc[0] for f in (three, one))
    assert found["n"] == 80
    assert found["low"] == pytest.approx(expected["low"]) and found["high"] == pytest.approx(expected["high"])
    half = three[(three["arch"] == "net") | (three["image"] < 20)]
    with pytest.raises(InputError, match="some images have 1 rows and some 3: leave out"):
        tables.means(half, "dice", ["method"])


def test_margins_count_wins_and_losses():
    frame = scores(0.2).query("dataset == 'first' and image < 3").copy()
    frame.loc[(frame["method"] == "B") & (frame["image"] == 0), "dice"] -= 1  # loses
    a = frame[(frame["method"] == "A") & (frame["image"] == 1)]["dice"].item()
    frame.loc[(frame["method"] == "B") & (frame["image"] == 1), "dice"] = a  # draws
    found = tables.margins(frame, "dice", "A").set_index(["method", "image"])["margin"]
    assert found["B"].tolist() == [-100, 0, 100] and found["A"].tolist() == [0, 0, 0]
