"""Results of the recorded run on real images (``figures/cpu``), for display beside a run of the reader's own."""

import json
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from sftgan.companion.report.tables import with_intervals
from sftgan.errors import InputError, check_name
from sftgan.provenance import ROOT

FOLDER = ROOT / "figures" / "cpu"
"""The recorded run that is published."""
MAIN = ("LSFT", "GSFT", "Grad-CAM", "linear", "mean map", "luminance")
"""Methods of the main comparison."""
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
"""Questions of a busy reader, each with the recorded frame and the patterns that select the row that answers it."""
_ANSWERS = {"holds": "yes", "go": "yes", "does not hold": "no", "no-go": "not shown", "depends": "undecided"}
_VALUES = ("difference", "accuracy", "first half")
_NOT_ABOUT = {
    *_VALUES, "comparison", "low", "high", "n", "images", "effect size", "p", "p (Holm)", "left out", "data here",
    "densities", "verdict",
}  # fmt: skip


def frame(item: str, folder: Path = FOLDER) -> pd.DataFrame:
    """Read a frame of the recorded run.

    Parameters
    ----------
    item
        Name of the frame, without its suffix.
    folder
        Folder of the recorded run.

    Returns
    -------
    DataFrame
        The frame.

    Raises
    ------
    InputError
        If the folder has no such frame.

    Examples
    --------
    >>> frame("04_dice_best_control").columns[:3].tolist()
    ['strategy', 'truth', 'method']
    """
    path = folder / f"{item}.csv"
    if not path.exists():
        raise InputError(
            f"{item} is not recorded in {folder}: use a checkout of the repository, or run `make record PROFILE=cpu`."
        )
    return pd.read_csv(path)


def one_row(found: pd.DataFrame, item: str, selector: Mapping[str, str], of: str, where: str) -> pd.Series:
    """Select the one row of a frame whose columns match patterns.

    Parameters
    ----------
    found
        Frame to select from.
    item
        Name of the frame, for the message.
    selector
        Patterns by column; ``*`` stands for any text.
    of
        What the selector belongs to, for the message, such as "claim unseen-emnist".
    where
        File that holds the selector, for the message.

    Returns
    -------
    Series
        The row.

    Raises
    ------
    InputError
        If the selector names an unknown column, or does not match exactly one row.

    Examples
    --------
    >>> import pandas as pd
    >>> dice = pd.DataFrame({"method": ["LSFT", "Grad-CAM"], "dice": [0.5, 0.25]})
    >>> float(one_row(dice, "dice", {"method": "LS*"}, "the example", "recorded.py")["dice"])
    0.5
    """
    fits = pd.Series(True, found.index)
    for column, pattern in selector.items():
        check_name(column, found.columns, f"column of {item} ({of})")
        fits &= found[column].astype(str).map(lambda cell, pattern=pattern: fnmatchcase(cell, pattern))
    if fits.sum() != 1:
        raise InputError(
            f"{of}: {fits.sum()} rows of {item} match {dict(selector)}: change it in {where} to match one row."
        )
    return found[fits].iloc[0]


def source(item: str, folder: Path = FOLDER) -> str:
    """Say which command, day, commit and machine produced a recorded item.

    Parameters
    ----------
    item
        Name of the item, without its suffix.
    folder
        Folder of the recorded run.

    Returns
    -------
    str
        The four, separated by commas.
    """
    made = json.loads((folder / f"{item}.json").read_text())
    hardware = made["hardware"]
    machine = hardware["gpu"] or f"{hardware['cores']} cores of {hardware['cpu']}"
    return f"{made['command']}, {made['date'][:10]}, commit {made['commit']}, {machine}"


def beside(
    judged: pd.DataFrame, item: str, columns: Sequence[str] = (), digits: int = 3, folder: Path = FOLDER
) -> pd.DataFrame:
    """Show the claims judged by this run beside those of the recorded run.

    Rows match if they agree in all shared columns that describe a claim. If several rows agree, they are matched in
    order.

    Parameters
    ----------
    judged
        Claims as this run judges them.
    item
        Name of the recorded frame of claims, without its suffix.
    columns
        Further columns of the recorded frame to show, such as "data here".
    digits
        Number of decimals.
    folder
        Folder of the recorded run.

    Returns
    -------
    DataFrame
        One row per claim of either run, with the value, its 95 % interval and the verdict in each; "–" where a run
        lacks the claim.

    Raises
    ------
    InputError
        If the frame is not recorded.
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
    """Index rows by the keys, and by their position among the rows with equal keys."""
    part = part.assign(**{name: part[name].astype(str) for name in keys})
    return part.assign(_row=part.groupby(keys).cumcount()).set_index([*keys, "_row"])


def main_table(folder: Path = FOLDER) -> pd.DataFrame:
    """Make the table of the main comparison: Dice (Tables 1 and 2) and average drop (Table 3) by strategy.

    The symbols are the data of the similar strategy, the photographs those of the dissimilar one.

    Parameters
    ----------
    folder
        Folder of the recorded run.

    Returns
    -------
    DataFrame
        One row per method in ``MAIN``; means over images and seeds with their 95 % intervals, as text.

    Raises
    ------
    InputError
        If a frame is not recorded.

    Examples
    --------
    >>> main_table()["map"].tolist()
    ['LSFT', 'GSFT', 'Grad-CAM', 'linear', 'mean map', 'luminance']
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
    """Answer ``QUESTIONS`` from the recorded run.

    The answer is "yes" or "no" if the whole 95 % interval of the difference supports it, and "undecided" otherwise.
    Chapter 11 requires more than that; its answer is "not shown" if the requirements are not met.

    Parameters
    ----------
    folder
        Folder of the recorded run.

    Returns
    -------
    DataFrame
        One row per question, with the columns "question", "answer", "what minus what", "difference" (with its
        interval, as text) and "chapter".

    Raises
    ------
    InputError
        If a frame is not recorded, or a question does not select exactly one row of its frame.
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
    """Compare the plan of a recorded run with the times that the cache logged.

    Parameters
    ----------
    plan
        CSV file of the plan, with one row per stage.
    log
        Log of the cache.

    Returns
    -------
    DataFrame
        The plan with two more columns for each stage: "computed", the number of results, and "minutes", their total
        time in one thread. Stages that were not planned come last.
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
