"""The ledger: every claim of the paper, judged by the recorded frames of each profile.

The file ledger.yaml holds the claims and their criteria, and no results. The function ``judged`` computes the
verdicts, and ``page`` writes them up.
"""

import json
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sftgan.companion.recording import recorded
from sftgan.companion.report.claims import UNTESTED
from sftgan.companion.report.statistics import verdict, verdict_between
from sftgan.companion.report.tables import markdown
from sftgan.companion.study.study import STRATEGIES, Study
from sftgan.errors import InputError, check_name
from sftgan.provenance import ROOT

FILE = Path(str(resources.files("sftgan.companion.recording"))) / "ledger.yaml"
PROFILES = ("smoke", "cpu", "paper")
NOT_RUN = "not run"
VERDICTS = ("holds", "does not hold", "depends", UNTESTED, NOT_RUN)
COLOURS = dict(zip(VERDICTS, ("#009e73", "#d55e00", "#b8860b", "#999999", "#cccccc"), strict=True))
"""Colours of the verdicts in figures."""
BEYOND = "beyond the paper"
_COLUMNS = (
    *("id", "section", "claim", "measure", "criterion"),
    *("value", "n", "data here", "verdict", "chapter's verdict", "beats the best control"),
)
_BEGIN, _END = "<!-- the recorded run: written by `sftgan claims` -->", "<!-- end of the recorded run -->"
_COUNTED = {
    "holds": "hold", "does not hold": "do not hold", "depends": "depend (the interval does not decide)",
    UNTESTED: "cannot be tested with its data",
}  # fmt: skip
_ABOUT = ("strategy", "method", "replacement")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Between(_Strict):
    """Criterion of a claim that a value lies in a range.

    Attributes
    ----------
    between
        Lower and upper end of the range.
    """

    between: tuple[float, float]


class Threshold(_Strict):
    """Criterion of a claim that a value lies above a threshold.

    Attributes
    ----------
    threshold
        The threshold.
    """

    threshold: float


class Claim(_Strict):
    """Claim of the paper, with the recorded row that measures it and the criterion that judges it.

    Attributes
    ----------
    id
        Unique name of the claim.
    section
        Number of the section of the paper that makes the claim.
    claim
        The claim in our words.
    measure
        What is measured.
    criterion
        Criterion that the measured value must meet.
    tolerance
        Amount by which the criterion is made stricter, in units of the value: a threshold rises by it, and both ends
        of a range move inwards by it.
    reason
        Name of the tolerance's reason, a key of the ledger's reasons.
    notebook
        Name of the notebook that measures the claim.
    item
        Name of the recorded frame, without its suffix.
    row
        Patterns by column that select the one row of the frame.
    value
        Column of the measured value; the columns "low" and "high" hold its interval.
    better
        Patterns by column that select the row of the notebook's comparison with the best control; empty if there
        is none.
    """

    id: str
    section: str
    claim: str
    measure: str
    criterion: Literal["above_zero"] | Between | Threshold = "above_zero"
    tolerance: float
    reason: str
    notebook: str
    item: str
    row: dict[str, str] = Field(min_length=1)
    value: str = "difference"
    better: dict[str, str] = {}

    @property
    def rule(self) -> str:
        """Criterion in words, with the tolerance included."""
        if isinstance(self.criterion, Between):
            low, high = self.criterion.between
            return f"from {low + self.tolerance:g} to {high - self.tolerance:g}"
        return f"above {self._bound:g}"

    @property
    def _bound(self) -> float:
        return getattr(self.criterion, "threshold", 0.0) + self.tolerance

    def verdict(self, low: float, high: float) -> str:
        """Judge the claim by the interval of the measured value.

        Parameters
        ----------
        low
            Lower end of the interval.
        high
            Upper end of the interval.

        Returns
        -------
        str
            "holds" if the whole interval meets the criterion, "does not hold" if no part of it does, and "depends"
            otherwise.
        """
        if isinstance(self.criterion, Between):
            at_least, at_most = self.criterion.between
            return verdict_between(low, high, at_least + self.tolerance, at_most - self.tolerance)
        return verdict(low - self._bound, high - self._bound)


class Unmeasured(_Strict):
    """Claim of the paper that the book does not measure.

    Attributes
    ----------
    id
        Unique name of the claim.
    section
        Number of the section of the paper that makes the claim.
    claim
        The claim in our words.
    reason
        Why it is not measured.
    notebook
        Name of the notebook that is nearest to the claim.
    """

    id: str
    section: str
    claim: str
    reason: str
    notebook: str


class Ledger(_Strict):
    """All claims of the paper.

    Attributes
    ----------
    fixed
        When the criteria were fixed, and what was known by then, in sentences for the page.
    reasons
        Reasons of the tolerances, by name.
    sections
        Titles of the paper's sections by number, in their order.
    claims
        Claims that the book measures.
    unmeasured
        Claims that the book does not measure.
    """

    fixed: str
    reasons: dict[str, str]
    sections: dict[str, str]
    claims: tuple[Claim, ...] = Field(min_length=1)
    unmeasured: tuple[Unmeasured, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> "Ledger":
        entries: list[Claim | Unmeasured] = [*self.claims, *self.unmeasured]
        ids = [entry.id for entry in entries]
        if twice := {name for name in ids if ids.count(name) > 1}:
            raise ValueError(f"id {min(twice)!r} occurs more than once")
        for entry in entries:
            check_name(entry.section, self.sections, "section")
        for claim in self.claims:
            check_name(claim.reason, self.reasons, "reason")
        return self


def load(path: Path = FILE) -> Ledger:
    """Read and check a ledger.

    Parameters
    ----------
    path
        YAML file of the ledger.

    Returns
    -------
    Ledger
        The ledger.

    Raises
    ------
    InputError
        If the file is not YAML, or it does not hold a valid ledger.

    Examples
    --------
    >>> load().claims[0].rule
    'above 0'
    """
    try:
        return Ledger.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise InputError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file as a whole"
        raise InputError(f"{path.name}, {where}: {first['msg']}.") from None


def selected(claim: Claim, frame: pd.DataFrame) -> pd.Series:
    """Select the one row of a recorded frame that measures a claim.

    Parameters
    ----------
    claim
        Claim to measure.
    frame
        Frame that was recorded under the name ``claim.item``.

    Returns
    -------
    Series
        The row.

    Raises
    ------
    InputError
        If the frame lacks a column that the claim names, or the claim does not select exactly one row.
    """
    check_name(claim.value, frame.columns, f"column of {claim.item} (claim {claim.id})")
    return recorded.one_row(frame, claim.item, claim.row, f"claim {claim.id}", FILE.name)


def judged(figures: Path, profile: str, ledger: Ledger | None = None) -> pd.DataFrame:
    """Judge all claims by the recorded frames of a profile.

    Parameters
    ----------
    figures
        Folder whose subfolders hold the recorded frames, one subfolder per profile.
    profile
        Name of the profile.
    ledger
        Claims to judge; None for those of the package.

    Returns
    -------
    DataFrame
        One row per claim, with the columns "id", "section", "claim", "measure", "criterion", "value" (with its
        interval, as text), "n", "data here", "verdict" (one of ``VERDICTS``), "chapter's verdict" and "beats the best
        control". The verdict is "not run" if the frame is not recorded.

    Raises
    ------
    InputError
        If a claim does not select exactly one row of its frame.
    """
    rows = []
    for claim in (ledger or load()).claims:
        about = [claim.id, claim.section, claim.claim, claim.measure, claim.rule]
        path = figures / profile / f"{claim.item}.csv"
        found = _measured(claim, path) if path.exists() else ["", pd.NA, "", NOT_RUN, ""]
        rows.append([*about, *found, _against_best(claim, figures / profile)])
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"n": "Int64"})


def by_section(judged: pd.DataFrame) -> pd.DataFrame:
    """Count the verdicts in each section of the paper.

    Parameters
    ----------
    judged
        Claims as ``judged`` returns them.

    Returns
    -------
    DataFrame
        One row per section that has claims, in the paper's order: the column "title", and one column of counts for
        each of ``VERDICTS``.

    Examples
    --------
    >>> import pandas as pd
    >>> claims = pd.DataFrame({"section": ["4.2.2", "4.2.2"], "verdict": ["holds", "depends"]})
    >>> by_section(claims)[["holds", "does not hold", "depends"]].to_numpy().tolist()
    [[1, 0, 1]]
    """
    titles = load().sections
    counted = pd.crosstab(judged["section"], judged["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    counted = counted.reindex([section for section in titles if section in counted.index])
    counted.insert(0, "title", [f"{section} {titles[section]}" for section in counted.index])
    return counted.reset_index(drop=True)


def _measured(claim: Claim, path: Path) -> list:
    """Return value, n, data, the ledger's verdict and the frame's; the ledger's is untested wherever the frame's is."""
    row = selected(claim, pd.read_csv(path)).dropna()
    value, low, high = (row.get(name, float("nan")) for name in (claim.value, "low", "high"))
    n = next((row[name] for name in ("n", "images", "test images") if name in row), pd.NA)
    about = [n, next((row[name] for name in ("data here", "data") if name in row), "")]
    own = row.get("verdict", "")
    if pd.isna(low) or pd.isna(high):
        return [_number(value), *about, UNTESTED, own]
    return [
        _interval(value, low, high),
        *about,
        UNTESTED if own == UNTESTED else claim.verdict(low, high),
        own,
    ]


def _against_best(claim: Claim, folder: Path) -> str:
    """Say whether the method called better beats every control; a dash if no chapter compares them."""
    item = f"{claim.notebook}_best_control"
    if not claim.better or not (folder / f"{item}.csv").exists():
        return "—"
    best = pd.read_csv(folder / f"{item}.csv")
    row = recorded.one_row(best, item, claim.better, f"claim {claim.id}", FILE.name)
    difference = _interval(*row[["difference", "low", "high"]])
    return f"{row['better than every control']}: {difference} against {row['best control']}"


def beyond(path: Path) -> pd.DataFrame:
    """List the claims of a recorded frame that are not the paper's.

    Parameters
    ----------
    path
        CSV file of the frame.

    Returns
    -------
    DataFrame
        One row per claim, with the columns "claim", "comparison", "value" (with its interval, as text), "n",
        "data here" and "verdict". It is empty if all claims are the paper's.
    """
    frame = pd.read_csv(path)
    where = [column for column in ("where", "who says so") if column in frame]
    frame = frame[(frame[where] == BEYOND).any(axis=1)]
    rows = []
    for _, row in frame.iterrows():
        about = ", ".join(str(row[name]) for name in _ABOUT if name in frame)
        value = row["difference"] if "difference" in frame else row["first half"]
        rows.append(
            {
                "claim": f"{row['claim']} ({about})" if about else row["claim"],
                "comparison": row.get("comparison", "share of the relevance in the first half"),
                "value": _interval(value, row["low"], row["high"]),
                "n": row["n"],
                "data here": row["data here"],
                "verdict": row["verdict"],
            }
        )
    return pd.DataFrame(rows)


def _number(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.3g}" if isinstance(value, float) else str(value)


def _interval(value: float, low: float, high: float) -> str:
    return f"{_number(value)} [{_number(low)}, {_number(high)}]"


def page(figures: Path) -> str:
    """Write the page book/claims.md.

    Parameters
    ----------
    figures
        Folder whose subfolders hold the recorded frames, one subfolder per profile.

    Returns
    -------
    str
        Page in MyST Markdown, for all profiles that have a subfolder.

    Raises
    ------
    InputError
        If a claim does not select exactly one row of its frame, or its notebook does not save the frame.
    """
    ledger = load()
    results = {name: judged(figures, name, ledger) for name in PROFILES if (figures / name).is_dir()}
    chapters = {path.stem[:2]: path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    parts = ["# The paper's claims, one by one", _introduction(ledger), "## How many hold", _counts(results)]
    for section, title in ledger.sections.items():
        claims = [claim for claim in ledger.claims if claim.section == section]
        if claims:
            parts += [f"## Section {section}: {title}", _claims(claims, results)]
    parts += ["## Where this page and a chapter differ", _differences(ledger, results)]
    parts += ["## Is any method better than every control?", *_best_controls(figures, results, chapters)]
    rows = [[u.section, u.claim, u.reason, _link(u.notebook)] for u in ledger.unmeasured]
    parts += ["## Not measured", markdown(["section", "claim", "why not", "chapter"], rows)]
    parts += ["## Beyond the paper", *_beyond(figures, results, chapters)]
    return "\n\n".join(parts) + "\n"


def readme(text: str, figures: Path) -> str:
    """Replace the section of README.md about the recorded run: verdicts, main table and one figure.

    Parameters
    ----------
    text
        Text of README.md, with the two comments that enclose the section.
    figures
        Folder whose subfolders hold the recorded frames; the published run is in the subfolder of the same name as
        ``recorded.FOLDER``.

    Returns
    -------
    str
        Text with the new section; the rest is unchanged.

    Raises
    ------
    InputError
        If the text lacks one of the two comments, or a frame is not recorded.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise InputError(f"README.md has no section between {_BEGIN} and {_END}: put both lines back.")
    folder = figures / recorded.FOLDER.name
    verdicts = judged(figures, folder.name)["verdict"].value_counts()
    counted = ", ".join(f"{verdicts.get(verdict, 0)} {words}" for verdict, words in _COUNTED.items())
    table, study = recorded.main_table(folder), Study(folder.name)
    symbols, photographs = (
        ", ".join(study.labels()[name] for name in study.of_strategy[strategy]) for strategy in STRATEGIES
    )
    part = [
        f"Of the {verdicts.sum()} claims of the paper that this book measures, on real images {counted}.",
        markdown(table.columns, table.to_numpy()),
        "Means with 95 % intervals over images and seeds, of classes that no generator has seen. "
        f"Symbols: {symbols}. Photographs: {photographs}. "
        "*Linear*, the *mean map* and *luminance* are controls without a GAN: a least-squares fit to what the "
        "generators are given, the average Grad-CAM of the training images, and the picture in grey.",
        "![Pictures of classes no generator has seen, with the heat maps of Grad-CAM, the GSFT generator and the LSFT "
        f"generator](figures/{folder.name}/04_dice_maps.png)",
        f"Written by `sftgan claims` from what this made: {recorded.source('04_dice_table2_controls', folder)}.",
    ]
    return before + begin + "\n\n" + "\n\n".join(part) + "\n\n" + end + after


def _introduction(ledger: Ledger) -> str:
    used = dict.fromkeys((claim.tolerance, claim.reason) for claim in ledger.claims)
    reasons = [f"- tolerance {tolerance:g}: {ledger.reasons[reason]}." for tolerance, reason in used]
    return "\n".join(
        [
            f"What {{cite:t}}`guna2024` claim, in our words: {len(ledger.claims)} claims that a recorded frame of this "
            f"book is about, and {len(ledger.unmeasured)} that none is.",
            "The value is a mean or a difference of means, with its 95 % interval. A claim *holds* where the whole "
            "interval meets the criterion, *does not hold* where none of it does, and *depends* where a part of it "
            "does: then this run does not decide. What has no interval, or not the data, *cannot be tested here*. "
            "About one verdict in twenty would be decided by chance alone.",
            "",
            f"{ledger.fixed.strip()} Each criterion has a tolerance, with its reason:",
            "",
            *reasons,
            "",
            "This page is computed by `sftgan claims` from the frames that `make record` keeps, "
            "`figures/PROFILE/ITEM.csv`; no verdict is typed by hand. Data that stand in for the paper's are named "
            "for what they are.",
        ]
    )


def _counts(results: dict[str, pd.DataFrame]) -> str:
    rows = [[f"`{k}`", *((found["verdict"] == v).sum() for v in VERDICTS)] for k, found in results.items()]
    return markdown(["profile", *VERDICTS], rows)


def _claims(claims: list[Claim], results: dict[str, pd.DataFrame]) -> str:
    head, better = ["claim", "measure", "criterion"], any(claim.better for claim in claims)
    for name in results:
        head += [f"value, `{name}`", f"verdict, `{name}`", *[f"beats the best control, `{name}`"] * better]
    rows = []
    for claim in claims:
        row = [claim.claim, claim.measure, claim.rule]
        for found in results.values():
            of = found[found["id"] == claim.id].iloc[0]
            n = "" if pd.isna(of["n"]) else f"n = {of['n']}"
            row += ["; ".join(filter(None, [of["value"], n, of["data here"]])), f"*{of['verdict']}*"]
            row += [of["beats the best control"]] * better
        rows.append([*row, _link(claim.notebook, _heading(claim.notebook, claim.item))])
    return markdown([*head, "chapter"], rows)


def _differences(ledger: Ledger, results: dict[str, pd.DataFrame]) -> str:
    """List the verdicts that differ from the frames' own, which only a tolerance or a missing interval can cause."""
    rows = []
    for name, found in results.items():
        for claim, (_, of) in zip(ledger.claims, found.iterrows(), strict=True):
            if of["chapter's verdict"] not in ("", of["verdict"]):
                why = f"tolerance {claim.tolerance:g}" if claim.tolerance else "a count without an interval"
                verdicts = [f"*{of[column]}*" for column in ("verdict", "chapter's verdict")]
                rows.append([f"`{name}`", claim.claim, claim.measure, *verdicts, why, _link(claim.notebook)])
    head = ["profile", "claim", "measure", "verdict here", "verdict in the chapter", "why", "chapter"]
    return markdown(head, rows) if rows else "Nowhere."


def _beyond(figures: Path, profiles: Iterable[str], chapters: dict[str, str]) -> Iterable[str]:
    yield (
        "What the paper does not claim and the chapters judge nevertheless, by the same criterion, without "
        "tolerance. Many are compared at once here: read a single verdict with that in mind."
    )
    for profile in profiles:
        for path in sorted((figures / profile).glob("*_claims.csv")):
            if not (frame := beyond(path)).empty:
                rows = frame.assign(verdict=[f"*{word}*" for word in frame["verdict"]])
                yield f"Profile `{profile}`, {_link(chapters[path.name[:2]])}, `{path.name}`:"
                yield markdown(list(rows.columns), rows.itertuples(index=False))


def _best_controls(figures: Path, profiles: Iterable[str], chapters: dict[str, str]) -> Iterable[str]:
    """Show each recorded frame of ``claims.against_best_control``; ``chapters`` holds the notebooks by number."""
    yield (
        "A method is *better* only where it beats the best of the controls, which need no generator, with the whole "
        "interval. The difference is the method minus that control; of the deletion area, less is better."
    )
    for profile in profiles:
        for path in sorted((figures / profile).glob("*_best_control.csv")):
            frame = pd.read_csv(path)
            interval = [
                _interval(*row) for row in frame[["difference", "low", "high"]].itertuples(index=False)
            ]
            frame = frame.assign(difference=interval).drop(columns=["low", "high"])
            rows = [[_number(x) for x in row] for row in frame.itertuples(index=False)]
            yield f"Profile `{profile}`, {_link(chapters[path.name[:2]])}, `{path.name}`:"
            yield markdown(list(frame.columns), rows)


def _link(notebook: str, heading: str = "") -> str:
    name = notebook.replace("_", " ")  # so that lines can break in it
    text = f"{name}, “{heading}”" if heading else name
    return f"{{doc}}`{text} <../notebooks/{notebook}>`"


@cache
def _heading(notebook: str, item: str) -> str:
    """Find the heading under which a notebook saves an item."""
    heading = ""
    for cell in json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            titles = [line for line in source.splitlines() if line.startswith("#")]
            heading = titles[-1].lstrip("# ") if titles else heading
        elif f'"{item}"' in source:
            return heading
    raise InputError(f"{notebook}.ipynb does not save {item}: correct the ledger or the notebook.")
