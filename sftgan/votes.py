"""What the votes of a survey say: exact tests, agreement, power, and the published counts (section 6)."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import binom, binomtest, permutation_test

from sftgan import plots
from sftgan.errors import InputError
from sftgan.paper import SURVEYS
from sftgan.survey import Pooled


class SignTest(NamedTuple):
    """Share won of all decided, its exact (Clopper-Pearson) 95 % interval, and the exact two-sided p for a half."""

    share: float
    low: float
    high: float
    p: float


class VoteTest(NamedTuple):
    """Share of the decided votes, and the p of a sign-flip test over persons, as one person's votes belong together."""

    share: float
    p: float


class Agreement(NamedTuple):
    """Between the `persons` who answered every question; None where it is undefined, for the reason `why`.

    pairs: in which share of all pairs of persons, over all questions, both gave the same answer. kappa: Fleiss' share
    beyond what the totals of the three answers would give by chance; near 0 also where all prefer the same method.
    """

    persons: int
    pairs: float | None
    kappa: float | None
    why: str


@dataclass(frozen=True)
class Analysis:
    """questions: a row for each of the survey: question, caption, votes of each method and ties, and the winner.

    The winner has more votes than the other method; else it is a "tie", or "no vote". by_question: the first method's
    share of the questions won. by_vote: its share of the votes. left: the left map's share of the votes, whichever
    method it shows. None where nothing is decided.
    """

    methods: tuple[str, str]
    persons: int
    simulated: bool
    questions: pd.DataFrame
    by_question: SignTest | None
    by_vote: VoteTest | None
    left: VoteTest | None
    agreement: Agreement


# Tests


def sign_test(wins: int, losses: int) -> SignTest:
    """Exact two-sided test of wins against losses, ties left out; one of the two is above 0."""
    found = binomtest(wins, wins + losses)
    interval = found.proportion_ci(method="exact")
    return SignTest(wins / (wins + losses), float(interval.low), float(interval.high), float(found.pvalue))


def power(n: int, share: float, alpha: float = 0.05) -> float:
    """Chance that `sign_test` of n decided questions comes out at or below `alpha` if the true share is `share`."""
    counts = np.arange(n + 1)
    rejected = np.array([binomtest(int(k), n).pvalue <= alpha for k in counts])
    return float(binom.pmf(counts, n, share)[rejected].sum())


def power_curve(n: int) -> pd.DataFrame:
    """Columns share (0.50, 0.51, ... 1.00) and power of n decided questions."""
    shares = np.arange(50, 101) / 100
    return pd.DataFrame({"share": shares, "power": [power(n, share) for share in shares]})


def smallest_share(n: int, wanted: float = 0.8) -> float | None:
    """The smallest share, in steps of 0.01, that n decided questions find with a chance of `wanted`, if any."""
    curve = power_curve(n)
    enough = curve.loc[curve["power"] >= wanted, "share"]
    return None if enough.empty else float(enough.iloc[0])


def majority(people: int, preference: float) -> float:
    """Chance that more than half of `people` pick a map that each of them picks with chance `preference`."""
    return float(binom.sf(people // 2, people, preference))


# The published surveys


def published() -> pd.DataFrame:
    """The counts of Fig. 17 and 18, with an exact test of wins against losses, ties left out."""
    rows = []
    for s in SURVEYS:
        test = sign_test(s.lsft, s.grad_cam)
        share = f"{test.share:.2f} [{test.low:.2f}, {test.high:.2f}]"
        name = f"{s.task} ({s.where.split(', ')[-1]})"
        rows.append([name, s.people, s.lsft, s.tie, s.grad_cam, share, f"{test.p:.4f}"])
    columns = ["survey", "people", "LSFT", "tie", "Grad-CAM", "share won by LSFT", "p"]
    return pd.DataFrame(rows, columns=columns)


def reach(preferences: Sequence[float]) -> pd.DataFrame:
    """What the published surveys could find if each person picked the preferred map with these chances.

    One row for each: how often the people's majority is for that map, and how often the test over the decided
    questions then comes out at or below 5 %.
    """
    rows = []
    for preference in preferences:
        row = {"chance of each person": preference}
        for s in SURVEYS:
            n, won = s.lsft + s.grad_cam, majority(s.people, preference)
            row |= {f"majority of {s.people} for it": won, f"{n} questions show it": power(n, won)}
        rows.append(row)
    return pd.DataFrame(rows)


# The analysis


def analyse(pooled: Pooled) -> Analysis:
    """Counts, exact tests, agreement and position bias. Raises InputError where no vote counts."""
    votes, (first, second) = pooled.votes, pooled.methods
    if votes.empty:
        raise InputError("none of the files holds an answer that counts: see what is reported of each.")
    questions = _counted(pooled)
    wins, losses = (int((questions["winner"] == method).sum()) for method in (first, second))
    sign = {first: 1, second: -1, "tie": 0}
    for_first = votes["choice"].map(sign)
    for_left = for_first * votes["left"].map(sign)  # 1 where the method chosen is the one on the left
    return Analysis(
        pooled.methods,
        votes["person"].nunique(),
        pooled.simulated,
        questions,
        sign_test(wins, losses) if wins + losses else None,
        _flipped(for_first, votes["person"]),
        _flipped(for_left, votes["person"]),
        _agreement(votes, len(questions)),
    )


def _counted(pooled: Pooled) -> pd.DataFrame:
    first, second = pooled.methods
    counts = pd.crosstab(pooled.votes["question"], pooled.votes["choice"])
    counts = counts.reindex(index=list(pooled.captions), columns=[first, "tie", second], fill_value=0)
    lead = counts[first] - counts[second]
    winner = np.select([lead > 0, lead < 0, counts.sum(axis=1) > 0], [first, second, "tie"], "no vote")
    counts.insert(0, "caption", list(pooled.captions.values()))
    return counts.assign(winner=winner).rename_axis("question").reset_index()


def _flipped(signs: pd.Series, person: pd.Series) -> VoteTest | None:
    """Test whether votes of 1 and -1 (0: a tie) lean to one side, by flipping the signs of whole persons."""
    decided = signs[signs != 0]
    if decided.empty:
        return None
    share, net = float((decided > 0).mean()), signs.groupby(person).sum().to_numpy()
    if len(net) == 1 or not net.any():  # all ways of flipping persons are as extreme
        return VoteTest(share, 1.0)
    rng = np.random.default_rng(0)
    found = permutation_test((net,), np.sum, permutation_type="samples", n_resamples=9999, rng=rng)
    return VoteTest(share, float(found.pvalue))


def _agreement(votes: pd.DataFrame, n_questions: int) -> Agreement:
    try:
        from statsmodels.stats.inter_rater import fleiss_kappa
    except ImportError as error:
        raise InputError("agreement needs a package: run `pip install statsmodels`.") from error
    whole = votes[votes.groupby("person")["question"].transform("size") == n_questions]
    n = whole["person"].nunique()
    if n < 2:
        return Agreement(n, None, None, "fewer than two persons answered every question")
    table = pd.crosstab(whole["question"], whole["choice"]).to_numpy()
    pairs = float((table * (table - 1)).sum() / (n_questions * n * (n - 1)))
    if table.shape[1] == 1:
        return Agreement(n, pairs, None, "all votes are alike")
    if n_questions == 1:
        return Agreement(n, pairs, None, "there is one question only")
    return Agreement(n, pairs, float(fleiss_kappa(table)), "")


# What is shown of it


def summary(found: Analysis) -> pd.DataFrame:
    """One row for each statistic: its name, its value or "undefined" and why, and how it was found."""
    first, agreed = found.methods[0], found.agreement
    rows = [
        [f"questions won by {first}", *_shown(found.by_question, "exact test", "neither wins a question")],
        [f"votes for {first}", *_shown(found.by_vote, "sign flips over persons", "every vote is a tie")],
        ["votes for the left map", *_shown(found.left, "sign flips over persons", "every vote is a tie")],
    ]
    for name, value, how in (
        ("pairs of persons that agree", agreed.pairs, "share of all pairs"),
        ("agreement beyond chance", agreed.kappa, "Fleiss' kappa"),
    ):
        shown = f"undefined: {agreed.why}" if value is None else f"{value:z.2f}"
        rows.append([name, shown, f"{how}, persons who answered every question: {agreed.persons}"])
    return pd.DataFrame(rows, columns=["statistic", "value", "how"])


def _shown(test: SignTest | VoteTest | None, how: str, why: str) -> tuple[str, str]:
    if test is None:
        return f"undefined: {why}", how
    interval = f" [{test.low:.2f}, {test.high:.2f}]" if isinstance(test, SignTest) else ""
    return f"{test.share:.2f}{interval}", f"{how}, p = {test.p:.3g}"


def report(found: Analysis) -> list[str]:
    """The counts and statistics as lines of text; of simulated votes each line says so."""
    first, second = found.methods
    won = found.questions["winner"].value_counts()
    names = [first, "tie", second, *(["no vote"] if "no vote" in won else [])]
    lines = [
        f"persons: {found.persons}",
        "",
        *found.questions.to_string(index=False).splitlines(),
        "",
        "questions won: " + ", ".join(f"{name} {won.get(name, 0)}" for name in names),
        *(f"{row.statistic}: {row.value} ({row.how})" for row in summary(found).itertuples()),
    ]
    return [f"SIMULATED {line}".rstrip() for line in lines] if found.simulated else lines


def figure(found: Analysis) -> Figure:
    """The questions won by each method, as in Fig. 17 and 18, and below it the votes on each question."""
    first, second = found.methods
    parts = [first, "tie", second]
    won = found.questions["winner"].value_counts().reindex(parts, fill_value=0)
    names = [
        textwrap.shorten(f"question {i}: {caption}", 44, placeholder=" …")
        for i, caption in enumerate(found.questions["caption"], 1)
    ]
    rows = pd.concat([
        won.to_frame().T.assign(row="questions won", counted="questions"),
        found.questions[parts].assign(row=names, counted="votes"),
    ])  # fmt: skip
    drawn = plots.counts(rows, "row", parts, panel="counted")
    if found.simulated:
        drawn.suptitle("simulated votes", fontsize=11)
    return drawn
