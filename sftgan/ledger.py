"""The ledger: every claim of the paper, judged by the recorded frames of each profile.

`ledger.yaml` has the claims and their criteria, and no result. `judged` computes the verdicts, `page` writes them up.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Literal

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sftgan.claims import UNTESTED
from sftgan.errors import InputError, check_name
from sftgan.paper import verdict, verdict_between
from sftgan.provenance import ROOT

FILE = Path(str(resources.files("sftgan"))) / "ledger.yaml"
PROFILES = ("smoke", "cpu", "paper")
NOT_RUN = "not run"
VERDICTS = ("holds", "does not hold", "depends", UNTESTED, NOT_RUN)
_COLUMNS = ("id", "section", "claim", "measure", "criterion", "value", "n", "data here", "verdict")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Between(_Strict):
    between: tuple[float, float]


class Threshold(_Strict):
    threshold: float


class Claim(_Strict):
    """A claim of the paper, the recorded row that measures it, and the criterion; a tolerance makes it stricter."""

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

    @property
    def rule(self) -> str:
        """The criterion in words."""
        if isinstance(self.criterion, Between):
            low, high = self.criterion.between
            return f"from {low + self.tolerance:g} to {high - self.tolerance:g}"
        return f"above {self._bound:g}"

    @property
    def _bound(self) -> float:
        return getattr(self.criterion, "threshold", 0.0) + self.tolerance

    def verdict(self, low: float, high: float) -> str:
        """Judge the interval of the measured value."""
        if isinstance(self.criterion, Between):
            at_least, at_most = self.criterion.between
            return verdict_between(low, high, at_least + self.tolerance, at_most - self.tolerance)
        return verdict(low - self._bound, high - self._bound)


class Unmeasured(_Strict):
    """A claim of the paper that this book has no measure for."""

    id: str
    section: str
    claim: str
    reason: str
    notebook: str


class Ledger(_Strict):
    """All claims; `reasons` are those of the tolerances, `sections` the titles by number, in their order."""

    fixed: str
    reasons: dict[str, str]
    sections: dict[str, str]
    claims: tuple[Claim, ...] = Field(min_length=1)
    unmeasured: tuple[Unmeasured, ...] = ()

    @model_validator(mode="after")
    def _names_are_known(self) -> "Ledger":
        entries = [*self.claims, *self.unmeasured]
        ids = [entry.id for entry in entries]
        if twice := {name for name in ids if ids.count(name) > 1}:
            raise ValueError(f"id {min(twice)!r} is there more than once")
        for entry in entries:
            check_name(entry.section, self.sections, "section")
        for claim in self.claims:
            check_name(claim.reason, self.reasons, "reason")
        return self


def load(path: Path = FILE) -> Ledger:
    """Read and check a ledger."""
    try:
        return Ledger.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise InputError(f"{path.name} is not YAML: {' '.join(str(error).split())}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(f"{path.name}, {where}: {first['msg']}.") from None


def selected(claim: Claim, frame: pd.DataFrame) -> pd.Series:
    """The one row of a recorded frame that measures a claim."""
    for column in (*claim.row, claim.value):
        check_name(column, frame.columns, f"column of {claim.item} (claim {claim.id})")
    fits = pd.Series(True, frame.index)
    for column, pattern in claim.row.items():
        fits &= frame[column].astype(str).map(lambda cell, pattern=pattern: fnmatchcase(cell, pattern))
    if fits.sum() != 1:
        raise InputError(
            f"claim {claim.id}: {fits.sum()} rows of {claim.item} are {claim.row}, change its selector in "
            f"{FILE.name} so that it is one."
        )
    return frame[fits].iloc[0]


def judged(figures: Path, profile: str, ledger: Ledger | None = None) -> pd.DataFrame:
    """All claims as the frames in `figures`/`profile` have them; "not run" where an item is not recorded."""
    rows = []
    for claim in (ledger or load()).claims:
        about = [claim.id, claim.section, claim.claim, claim.measure, claim.rule]
        path = figures / profile / f"{claim.item}.csv"
        rows.append([*about, *(_measured(claim, path) if path.exists() else ["", pd.NA, "", NOT_RUN])])
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"n": "Int64"})


def _measured(claim: Claim, path: Path) -> list:
    """Value as text, n, data and verdict; what the frame cannot test, the ledger cannot either."""
    row = selected(claim, pd.read_csv(path)).dropna()
    value, low, high = (row.get(name, float("nan")) for name in (claim.value, "low", "high"))
    n = next((row[name] for name in ("n", "images", "test images") if name in row), pd.NA)
    about = [n, next((row[name] for name in ("data here", "data") if name in row), "")]
    if pd.isna(low) or pd.isna(high):
        return [_number(value), *about, UNTESTED]
    untested = row.get("verdict") == UNTESTED
    return [_interval(value, low, high), *about, UNTESTED if untested else claim.verdict(low, high)]


def _number(value: object) -> str:
    return "" if pd.isna(value) else f"{value:.3g}" if isinstance(value, float) else str(value)


def _interval(value: float, low: float, high: float) -> str:
    return f"{_number(value)} [{_number(low)}, {_number(high)}]"


def page(figures: Path) -> str:
    """The page book/claims.md, in MyST Markdown, for all profiles with a folder in `figures`."""
    ledger = load()
    results = {name: judged(figures, name, ledger) for name in PROFILES if (figures / name).is_dir()}
    chapters = {path.stem[:2]: path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    parts = ["# The paper's claims, one by one", _introduction(ledger), "## How many hold", _counts(results)]
    for section, title in ledger.sections.items():
        claims = [claim for claim in ledger.claims if claim.section == section]
        if claims:
            parts += [f"## Section {section}: {title}", _claims(claims, results)]
    parts += ["## Is any method better than every control?", *_best_controls(figures, results, chapters)]
    rows = [[u.section, u.claim, u.reason, _link(u.notebook)] for u in ledger.unmeasured]
    parts += ["## Not measured", _table(["section", "claim", "why not", "chapter"], rows)]
    return "\n\n".join(parts) + "\n"


def _introduction(ledger: Ledger) -> str:
    used = dict.fromkeys((claim.tolerance, claim.reason) for claim in ledger.claims)
    reasons = [f"- tolerance {tolerance:g}: {ledger.reasons[reason]}." for tolerance, reason in used]
    return "\n".join(
        [
            f"What {{cite:t}}`guna2024` claim, in our words: {len(ledger.claims)} claims that a number of this book "
            f"can decide, and {len(ledger.unmeasured)} that none can.",
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
    return _table(["profile", *VERDICTS], rows)


def _claims(claims: list[Claim], results: dict[str, pd.DataFrame]) -> str:
    head = ["claim", "measure", "criterion"]
    for name in results:
        head += [f"value, `{name}`", f"verdict, `{name}`"]
    rows = []
    for claim in claims:
        row = [claim.claim, claim.measure, claim.rule]
        for found in results.values():
            of = found[found["id"] == claim.id].iloc[0]
            n = "" if pd.isna(of["n"]) else f"n = {of['n']}"
            row += ["; ".join(filter(None, [of["value"], n, of["data here"]])), f"*{of['verdict']}*"]
        rows.append([*row, _link(claim.notebook)])
    return _table([*head, "chapter"], rows)


def _best_controls(figures: Path, profiles: Iterable[str], chapters: dict[str, str]) -> Iterable[str]:
    """Each recorded frame of `claims.against_best_control`; `chapters` are the notebooks by number."""
    yield (
        "A method is *better* only where it beats the best of the controls, which need no generator, with the whole "
        "interval. The difference is the method minus that control. Of several measures, each has its rows, in the "
        "order of the chapter."
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
            yield _table(list(frame.columns), rows)


def _link(notebook: str) -> str:
    return f"{{doc}}`{notebook} <../notebooks/{notebook}>`"


def _table(head: Iterable[str], rows: Iterable[Iterable]) -> str:
    lines = [[*head], ["---"] * len([*head]), *rows]
    return "\n".join("| " + " | ".join(str(x).replace("|", "\\|") for x in line) + " |" for line in lines)
