"""Recorded frames stand beside a run of one's own: row by row, with nothing dropped and nothing made up."""

import json

import pandas as pd
import pytest

from sftgan import InputError
from sftgan.companion.recording import recorded


def claims(*rows: tuple) -> pd.DataFrame:
    columns = ["strategy", "claim", "data here", "n", "difference", "low", "high", "verdict"]
    frame = pd.DataFrame(rows, columns=columns)
    untested = frame["verdict"] == "cannot be tested here"  # such rows say of nothing what was compared
    return frame.assign(comparison=pd.Series("a − b", frame.index).mask(untested))


MINE = claims(
    ("similar", "a is above b", "digits", 9, 0.25, 0.125, 0.375, "holds"),
    ("similar", "b is above c", "digits", 9, None, None, None, "cannot be tested here"),
    ("dissimilar", "a is above b", "scenes", 9, -0.5, -0.75, -0.25, "does not hold"),
)


@pytest.fixture
def folder(tmp_path):
    theirs = claims(
        ("dissimilar", "a is above b", "photographs", 99, 0.5, 0.25, 0.75, "holds"),
        ("similar", "a is above b", "letters", 99, 0.0, -0.25, 0.25, "depends"),
        ("similar", "c is above d", "letters", 99, 1.0, 0.5, 1.5, "holds"),
    )
    theirs.to_csv(tmp_path / "04_claims.csv", index=False)
    return tmp_path


def test_claims_stand_beside_those_of_the_recorded_run(folder):
    found = recorded.beside(MINE, "04_claims", ["data here"], digits=2, folder=folder)
    assert list(found) == [
        "strategy", "claim", "data here", "recorded", "verdict, recorded", "this run", "verdict, this run",
    ]  # fmt: skip
    rows = [[str(x).replace("\N{NO-BREAK SPACE}", " ") for x in row] for row in found.to_numpy()]
    assert rows == [
        ["similar", "a is above b", "letters", "0.00 [-0.25, 0.25]", "depends", "0.25 [0.12, 0.38]", "holds"],
        ["similar", "b is above c", "–", "–", "–", "–", "cannot be tested here"],
        ["dissimilar", "a is above b", "photographs", "0.50 [0.25, 0.75]", "holds", "-0.50 [-0.75, -0.25]",
         "does not hold"],
        ["similar", "c is above d", "letters", "1.00 [0.50, 1.50]", "holds", "–", "–"],
    ]  # fmt: skip


def test_rows_that_say_the_same_belong_together_in_their_order(tmp_path):
    three = pd.DataFrame({
        "claim": ["every CNN exceeds it"] * 3, "accuracy": [0.1, 0.2, 0.3], "low": 0.0, "high": 1.0,
        "data here": ["digits", "letters", "numerals"], "verdict": ["depends"] * 3,
    })  # fmt: skip
    three.to_csv(tmp_path / "03_claims.csv", index=False)
    mine = three.assign(accuracy=three["accuracy"] + 0.5, **{"data here": ["a", "b", "c"]})
    found = recorded.beside(mine, "03_claims", ["data here"], digits=1, folder=tmp_path)
    assert found["data here"].tolist() == ["digits", "letters", "numerals"]
    assert found["recorded"].str[:3].tolist() == ["0.1", "0.2", "0.3"]
    assert found["this run"].str[:3].tolist() == ["0.6", "0.7", "0.8"]


def test_what_nobody_recorded_is_one_sentence(folder):
    with pytest.raises(InputError, match="05_claims is not recorded in .*: use a checkout") as error:
        recorded.beside(MINE, "05_claims", folder=folder)
    assert "\n" not in str(error.value)


def test_the_source_of_an_item(folder):
    hardware = {"cpu": "AMD EPYC", "cores": 2, "gpu": None}
    made = {
        "command": "make record",
        "date": "2026-11-28T05:00:00+00:00",
        "commit": "abc",
        "hardware": hardware,
    }
    path = folder / "04_claims.json"
    path.write_text(json.dumps(made))
    assert recorded.source("04_claims", folder) == "make record, 2026-11-28, commit abc, 2 cores of AMD EPYC"
    path.write_text(json.dumps(made | {"hardware": hardware | {"gpu": "NVIDIA H100"}}))
    assert recorded.source("04_claims", folder).endswith("commit abc, NVIDIA H100")


def test_times_of_the_stages_are_those_of_the_log(tmp_path):
    plan, log = tmp_path / "plan.csv", tmp_path / "log.txt"
    plan.write_text(
        "stage,what,count,predicted CPU minutes\n_gan,GANs,3,5\n_maps,maps,1,1\nother,the rest,15,9\n"
    )
    log.write_text(
        "2026-11-28 05:00:00 _gan lsft on mnist, emnist: 90.0 s\n"
        "2026-11-28 05:02:00 _gan gsft on mnist: of 3 s: 30.0 s\n"
        "2026-11-28 05:03:00 _image_data mnist: 600.0 s\n"
    )
    found = recorded.stage_times(plan, log)
    assert found["stage"].tolist() == ["_gan", "_maps", "other", "_image_data"]
    assert found["computed"].tolist() == [2, 0, 0, 1] and found["minutes"].tolist() == [2.0, 0.0, 0.0, 10.0]
    assert found["predicted CPU minutes"].tolist()[:3] == [5, 1, 9] and found["what"].iloc[3] == "not planned"


SMOKE = recorded.FOLDER.parent / "smoke"


def test_the_main_table_has_the_recorded_means():
    found = recorded.main_table(SMOKE).set_index("map")
    assert list(found.index) == list(recorded.MAIN)
    dice = recorded.frame("04_dice_table2_controls", SMOKE).set_index("method")
    drop = recorded.frame("05_faithfulness_table3", SMOKE).set_index(["strategy", "method"])
    for method in recorded.MAIN:
        assert (
            found.loc[method, "Dice with Grad-CAM, photographs"]
            == dice.loc[method, "dissimilar, truth: Grad-CAM"]
        )
        assert (
            found.loc[method, "average drop, %, symbols"] == drop.loc[("similar", method), "average drop, %"]
        )
    assert found.notna().all(axis=None)


def test_every_question_is_answered_by_one_row_and_its_interval():
    found = recorded.answers(SMOKE)
    assert len(found) == len(recorded.QUESTIONS) and found["question"].is_unique
    low, high = (found["difference"].str.extract(rf"{part}\]?$")[0].astype(float) for part in
                 (r"\[(-?[\d.]+),\s-?[\d.]+", r",\s(-?[\d.]+)"))  # fmt: skip
    for answer, above, below in zip(found["answer"], low > 0, high < 0, strict=True):
        assert {"yes": above, "no": below, "undecided": not above and not below}.get(answer, True)


def test_a_question_about_no_row_is_one_sentence(monkeypatch):
    monkeypatch.setattr(recorded, "QUESTIONS", (("Why?", "04_dice_best_control", {"method": "nobody"}),))
    with pytest.raises(InputError, match="0 rows of 04_dice_best_control match"):
        recorded.answers(SMOKE)
