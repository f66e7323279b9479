"""What the recorded run on real images found, to be shown beside a run of one's own: the frames in `figures/cpu`."""

import json
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from sftgan.errors import InputError, check_name
from sftgan.provenance import ROOT
from sftgan.tables import with_intervals

FOLDER = ROOT / "figures" / "cpu"
"""The recorded run that is published."""
MAIN = ("LSFT", "GSFT", "Grad-CAM", "linear", "mean map", "luminance")
"""The methods of the main comparison."""
QUESTIONS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Is LSFT nearer to Grad-CAM (Dice) than every control? Symbols",
     "04_dice_best_control", {"strategy": "similar", "truth": "Grad-CAM", "method": "LSFT"}),
    ("Is LSFT nearer to Grad-CAM (Dice) than every control? Photographs",
     "04_dice_best_control", {"strategy": "dissimilar", "truth": "Grad-CAM", "method": "LSFT"}),
    ("Does LSFT keep more of the CNN's confidence than Grad-CAM (average drop, %)? Symbols",
     "05_faithfulness_claims", {"strategy": "similar", "claim": "LSFT's drop is below Grad-CAM's, as the paper*"}),
    ("Does LSFT keep more of the CNN's confidence than Grad-CAM (average drop, %)? Photographs",
     "05_faithfulness_claims", {"strategy": "dissimilar", "claim": "LSFT's drop is below Grad-CAM's, as the paper*"}),
    ("Does SFT draw the target better (r) than plain concatenation?", "13_switches_claims", {"claim": "SFT draws*"}),
    ("Does the adversarial loss bring LSFT nearer to its target (r)?",
     "13_switches_claims", {"claim": "The adversarial loss*"}),
    ("Are averages better conditions (r) than raw Grad-CAMs?", "13_switches_claims", {"claim": "Averages make*"}),
    ("Does LSFT's map depend on what the CNN has learned (rank correlation)?",
     "14_sanity_claims", {"claim": "LSFT depends*"}),
    *((f"Do CGMAs help a net that learns {teacher} for a CNN it has not seen (r)?",
       "11_beyond_decision", {"teacher": teacher}) for teacher in ("SmoothGrad", "RISE", "Score-CAM")),
)  # fmt: skip
"""What a busy reader asks, and the one row of a recorded frame that answers it."""
_ANSWERS = {"holds": "yes", "go": "yes", "does not hold": "no", "no-go": "not shown", "depends": "undecided"}
_VALUES = ("difference", "accuracy", "first half")
_NOT_ABOUT = {
    *_VALUES, "comparison", "low", "high", "n", "images", "effect size", "p", "p (Holm)", "left out", "data here",
    "densities", "verdict",
}  # fmt: skip


def frame(item: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The frame that the recorded run kept as ITEM.csv. Raises InputError where there is none."""
    path = folder / f"{item}.csv"
    if not path.exists():
        raise InputError(
            f"no run has recorded {item} in {folder}: use a checkout of the repository, or `make record PROFILE=cpu`."
        )
    return pd.read_csv(path)


def one_row(found: pd.DataFrame, item: str, selector: Mapping[str, str], of: str, where: str) -> pd.Series:
    """The one row of the frame `item` whose columns match the patterns of a selector; `*` stands for any text.

    Raises InputError, with what it is a selector `of` and `where` it stands, if it is no column or not one row.
    """
    fits = pd.Series(True, found.index)
    for column, pattern in selector.items():
        check_name(column, found.columns, f"column of {item} ({of})")
        fits &= found[column].astype(str).map(lambda cell, pattern=pattern: fnmatchcase(cell, pattern))
    if fits.sum() != 1:
        raise InputError(
            f"{of}: {fits.sum()} rows of {item} are {dict(selector)}, change its selector in {where} so that it is one."
        )
    return found[fits].iloc[0]


def source(item: str, folder: Path = FOLDER) -> str:
    """What made a recorded item: command, day, commit and machine."""
    made = json.loads((folder / f"{item}.json").read_text())
    hardware = made["hardware"]
    machine = hardware["gpu"] or f"{hardware['cores']} cores of {hardware['cpu']}"
    return f"{made['command']}, {made['date'][:10]}, commit {made['commit']}, {machine}"


def beside(
    judged: pd.DataFrame, item: str, columns: Sequence[str] = (), digits: int = 3, folder: Path = FOLDER
) -> pd.DataFrame:
    """Claims judged by this run beside the recorded frame of claims `item`.

    One row for each claim of either: value with its 95 % interval, and verdict, of this run and of the recorded one.
    Rows belong together where all that says what they are about is equal, in the order in which they stand; "–" where
    a run has none. `columns` are taken from the recorded frame too, such as "data here".
    """
    there = frame(item, folder)
    keys = [str(name) for name in judged if name in there and name not in _NOT_ABOUT]
    live, recorded = (
        _texts(part, keys, name, digits) for name, part in {"this run": judged, "recorded": there}.items()
    )
    recorded = recorded.join(_numbered(there, keys)[list(columns)])
    order = live.index.append(recorded.index[~recorded.index.isin(live.index)])
    found = pd.concat([part.reindex(order) for part in (recorded, live)], axis=1).fillna("–").reset_index()
    return found[[*keys, *columns, *recorded.columns.drop(list(columns)), *live.columns]]


def _texts(part: pd.DataFrame, keys: list[str], run: str, digits: int) -> pd.DataFrame:
    value = next(name for name in _VALUES if name in part)
    text = with_intervals(part, value, digits).where(part[value].notna(), "–")
    return _numbered(part.assign(**{run: text, f"verdict, {run}": part["verdict"]}), keys)[
        [run, f"verdict, {run}"]
    ]


def _numbered(part: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """With an index of the keys, and the number of the row among those of equal keys."""
    part = part.assign(**{name: part[name].astype(str) for name in keys})
    return part.assign(_row=part.groupby(keys).cumcount()).set_index([*keys, "_row"])


def main_table(folder: Path = FOLDER) -> pd.DataFrame:
    """The main comparison, one row per method: Dice (Tables 1 and 2) and average drop (Table 3) by strategy.

    Means with 95 % intervals as text, over images and seeds. Symbols: the similar strategy, photographs: the other.
    """
    dice = frame("04_dice_table2_controls", folder).set_index("method")
    drop = frame("05_faithfulness_table3", folder)
    drop = drop.set_index(["method", "strategy"])["average drop, %"].unstack()
    table = pd.DataFrame(index=pd.Index(MAIN, name="map"))
    table["Dice with the object, symbols"] = dice["similar, truth: object"]
    for strategy, name in {"similar": "symbols", "dissimilar": "photographs"}.items():
        table[f"Dice with Grad-CAM, {name}"] = dice[f"{strategy}, truth: Grad-CAM"]
        table[f"average drop, %, {name}"] = drop[strategy]
    return table.reset_index()


def answers(folder: Path = FOLDER) -> pd.DataFrame:
    """`QUESTIONS` answered: yes or no where the whole 95 % interval of the difference says so, else "undecided".

    "not shown" is the no-go of chapter 11, which asks for more than an interval.
    """
    rows = []
    for question, item, selector in QUESTIONS:
        row = one_row(frame(item, folder), item, selector, f"question {question!r}", "recorded.py")
        judged = next(
            row[name] for name in ("better than every control", "decision", "verdict") if name in row
        )
        minus = row.get("comparison", f"LSFT − {row.get('best control')}")
        difference = with_intervals(row.to_frame().T, "difference", digits=3).item()
        rows.append([question, _ANSWERS.get(judged, judged), minus, difference, item[:2]])
    return pd.DataFrame(rows, columns=["question", "answer", "what minus what", "difference", "chapter"])


def stage_times(plan: Path, log: Path) -> pd.DataFrame:
    """The plan of a recorded run, with the count and minutes (one thread) of each stage in the log of the cache.

    Stages that nobody had planned come last.
    """
    lines = re.findall(r"^\S+ \S+ (_\w+) .*: ([\d.]+) s$", log.read_text(), re.MULTILINE)
    found = pd.DataFrame(lines, columns=["stage", "seconds"]).astype({"seconds": float})
    found = found.groupby("stage")["seconds"].agg(["size", "sum"])
    planned = pd.read_csv(plan)
    unplanned = [stage for stage in found.index if stage not in set(planned["stage"])]
    table = pd.concat([planned, pd.DataFrame({"stage": unplanned, "what": "not planned"})], ignore_index=True)
    return table.assign(
        computed=table["stage"].map(found["size"]).fillna(0).astype(int),
        minutes=(table["stage"].map(found["sum"]).fillna(0) / 60).round(1),
    )
