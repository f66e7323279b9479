"""Views of tidy frames: groups keep their order, differences are paired, verdicts follow the interval."""

import numpy as np
import pandas as pd
import pytest

from sftgan import InputError, tables
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


def test_provenance_is_flattened():
    html = tables.provenance_table(
        {"seed": 0, "overrides": {}, "hardware": {"cores": 2, "gpu": None}}
    ).to_html()
    assert "cores 2" in html and "gpu" not in html and "none" in html
