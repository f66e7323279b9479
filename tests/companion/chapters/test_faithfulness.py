"""Table 3 in both definitions, and what LSFT's curves are compared with. The numbers are in test_experiments.py."""

import numpy as np
import pandas as pd
import pytest

from sftgan import metrics
from sftgan.companion.chapters import faithfulness
from sftgan.companion.report import statistics
from sftgan.companion.study.frames import METHODS


def measured(kept: dict[str, np.ndarray], archs=("net", "other")) -> pd.DataFrame:
    """Methods whose energy maps keep shares of the confidence; what the first image keeps comes first."""
    frames = []
    for arch in archs:
        for method, share in kept.items():
            original = np.linspace(0.4, 0.8, len(share))
            columns = {"method": method, "image": range(len(share)), "E": original, "O": original * share}
            frames.append(pd.DataFrame(columns | {"arch": arch, "area": 0.5}))
    frame = pd.concat(frames, ignore_index=True).assign(dataset="d", data="D", strategy="similar")
    frame["win"] = statistics.margins(frame, "O", "Grad-CAM").clip(lower=0)
    return frame.assign(**{"win (Grad-CAM++)": frame["win"]})


@pytest.fixture
def frame():
    few, many = np.full(20, 0.5), np.full(20, 0.5)
    few[:2], many[:8] = 1.5, 1.5
    return measured({"LSFT": many, "GSFT": few, "Grad-CAM": np.full(20, 0.8), "all ones": np.ones(20)})


def test_table_3_has_both_definitions_by_any_group(frame):
    found = faithfulness.table(frame, ["strategy", "method"]).set_index("method")
    assert found["images"].tolist() == [20] * 4 and found["CNNs"].tolist() == [2] * 4
    assert found["cases that rose"].tolist() == ["16 of 40", "4 of 40", "0 of 40", "0 of 40"]
    assert found["area"].tolist() == ["0.50\xa0[0.50,\xa00.50]"] * 4
    lsft = found.loc["LSFT"]
    assert lsft["average drop, %"].startswith("50.0\xa0[50.0") and lsft["average increase, %"].startswith(
        "50.0\xa0["
    )
    assert lsft["average drop (Grad-CAM++), %"].startswith("30.0\xa0[")  # half, on 12 of 20 images
    assert lsft["increase in confidence (Grad-CAM++), %"].startswith("40.0\xa0[")
    assert lsft["win, %"].startswith("40.0\xa0[") and found.loc["Grad-CAM", "win, %"] == "–"
    assert found.loc["Grad-CAM", "win (Grad-CAM++), %"] == "–"


def test_a_number_about_no_or_few_cases_has_no_interval(frame):
    by_pair = faithfulness.table(frame, ["data", "arch", "method"])
    assert "CNNs" not in by_pair and by_pair["arch"].tolist() == ["net"] * 4 + ["other"] * 4
    pair = by_pair.query("arch == 'net'").set_index("method")
    assert pair["average increase, %"].tolist()[1:] == ["50.0", "none", "none"]  # GSFT: two images
    assert pair.loc["all ones", "average drop, %"] == "none"
    assert pair.loc["all ones", "average drop (Grad-CAM++), %"] == "0.0\xa0[0.0,\xa00.0]"
    assert pair.loc["LSFT", "average increase, %"] == "50.0\xa0[50.0,\xa050.0]"
    assert metrics.FEWEST == 5


def test_the_curves_are_compared_with_grad_cam_and_two_controls():
    others = {o.larger for o in faithfulness.CURVE_ORDERINGS} | {
        o.smaller for o in faithfulness.CURVE_ORDERINGS
    }
    assert others == {"LSFT", "Grad-CAM", "mean map", "luminance"} <= set(METHODS)
    for claim, _, measure, larger, smaller, *_ in faithfulness.CURVE_ORDERINGS:
        other = smaller if measure == "insertion" else larger
        assert claim == f"LSFT's {measure} area is {'above' if other == smaller else 'below'} that of {other}"
