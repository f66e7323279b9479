"""The analysis of survey votes: exact tests, agreement, power, and the published counts (section 6)."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import binom, binomtest, permutation_test

from sftgan.companion.chapters.survey import Pooled
from sftgan.companion.report import plots
from sftgan.companion.report.paper import SURVEYS
from sftgan.errors import InputError


class SignTest(NamedTuple):
    """The result of an exact sign test.

    Attributes
    ----------
    share
        Share of wins among all decided cases.
    low
        Lower end of its exact (Clopper-Pearson) 95 % interval.
    high
        Upper end of that interval.
    p
        Exact two-sided p for a true share of one half.
    """

    share: float
    low: float
    high: float
    p: float


class VoteTest(NamedTuple):
    """The result of a test over single votes.

    Attributes
    ----------
    share
        Share of the decided votes.
    p
        p of a sign-flip test over persons. Persons are flipped as a whole because one person's votes are not
        independent.
    """

    share: float
    p: float


class Agreement(NamedTuple):
    """The agreement between those persons who answered every question.

    Attributes
    ----------
    persons
        Number of these persons.
    pairs
        Share of all pairs of persons, over all questions, in which both gave the same answer; None if
        undefined.
    kappa
        Fleiss' kappa: agreement beyond what the totals of the three answers would give by chance; None if
        undefined. It is also near 0 if everyone prefers the same method.
    why
        Why a value is undefined; empty if none is.
    """

    persons: int
    pairs: float | None
    kappa: float | None
    why: str


@dataclass(frozen=True)
class Analysis:
    """The results of a survey.

    Attributes
    ----------
    methods
        The two methods.
    persons
        Number of persons.
    simulated
        Whether the persons are simulated.
    questions
        One row for each question of the survey: ``question``, ``caption``, the votes for each method and for
        "tie", and ``winner``. The winner is the method with more votes, or "tie" if both have the same, or
        "no vote".
    by_question
        Test of the first method's share of the questions won; None if neither method wins one.
    by_vote
        Test of the first method's share of the votes; None if all are ties.
    left
        Test of the left map's share of the votes, whichever method it shows; None if all are ties.
    agreement
        Agreement between persons.
    """

    methods: tuple[str, str]
    persons: int
    simulated: bool
    questions: pd.DataFrame
    by_question: SignTest | None
    by_vote: VoteTest | None
    left: VoteTest | None
    agreement: Agreement


def sign_test(wins: int, losses: int) -> SignTest:
    """Test wins against losses exactly and two-sided, without ties.

    Parameters
    ----------
    wins
        Number of wins.
    losses
        Number of losses; at least one of the two numbers is above 0.

    Returns
    -------
    SignTest
        Share of wins with its interval, and p.

    Examples
    --------
    >>> found = sign_test(wins=4, losses=0)
    >>> round(found.share, 3), round(found.low, 3), round(found.high, 3), round(found.p, 3)
    (1.0, 0.398, 1.0, 0.125)
    """
    found = binomtest(wins, wins + losses)
    interval = found.proportion_ci(method="exact")
    return SignTest(wins / (wins + losses), float(interval.low), float(interval.high), float(found.pvalue))


def power(n: int, share: float, alpha: float = 0.05) -> float:
    """Compute the chance that ``sign_test`` rejects a share of one half.

    Parameters
    ----------
    n
        Number of decided questions.
    share
        True share of wins.
    alpha
        Significance level: the test rejects if p is at most ``alpha``.

    Returns
    -------
    float
        Chance, from 0 to 1.

    Examples
    --------
    >>> power(4, share=1.0), round(power(6, share=1.0), 3)
    (0.0, 1.0)
    """
    counts = np.arange(n + 1)
    rejected = np.array([binomtest(int(k), n).pvalue <= alpha for k in counts])
    return float(binom.pmf(counts, n, share)[rejected].sum())


def power_curve(n: int) -> pd.DataFrame:
    """Compute the power of n decided questions for true shares from 0.50 to 1.00.

    Parameters
    ----------
    n
        Number of decided questions.

    Returns
    -------
    pd.DataFrame
        Columns ``share`` (in steps of 0.01) and ``power``.

    Examples
    --------
    >>> power_curve(6).tail(1)
        share  power
    50    1.0    1.0
    """
    shares = np.arange(50, 101) / 100
    return pd.DataFrame({"share": shares, "power": [power(n, share) for share in shares]})


def smallest_share(n: int, wanted: float = 0.8) -> float | None:
    """Find the smallest true share that ``sign_test`` detects often enough.

    Parameters
    ----------
    n
        Number of decided questions.
    wanted
        Smallest power that is enough.

    Returns
    -------
    float | None
        Share in steps of 0.01; None if the power is too low even for a share of 1.

    Examples
    --------
    >>> smallest_share(6), smallest_share(4)
    (0.97, None)
    """
    curve = power_curve(n)
    enough = curve.loc[curve["power"] >= wanted, "share"]
    return None if enough.empty else float(enough.iloc[0])


def majority(people: int, preference: float) -> float:
    """Compute the chance that more than half of some people pick the same map.

    Parameters
    ----------
    people
        Number of people.
    preference
        Chance that each of them picks this map.

    Returns
    -------
    float
        Chance, from 0 to 1.

    Examples
    --------
    >>> round(majority(25, 0.5), 3)
    0.5
    """
    return float(binom.sf(people // 2, people, preference))


def published() -> pd.DataFrame:
    """Return the counts of Figs. 17 and 18, with ``sign_test`` of LSFT's wins against its losses."""
    rows = []
    for s in SURVEYS:
        test = sign_test(s.lsft, s.grad_cam)
        share = f"{test.share:.2f} [{test.low:.2f}, {test.high:.2f}]"
        name = f"{s.task} ({s.where.split(', ')[-1]})"
        rows.append([name, s.people, s.lsft, s.tie, s.grad_cam, share, f"{test.p:.4f}"])
    columns = ["survey", "people", "LSFT", "tie", "Grad-CAM", "share won by LSFT", "p"]
    return pd.DataFrame(rows, columns=columns)


def reach(preferences: Sequence[float]) -> pd.DataFrame:
    """Compute what the published surveys could detect, for assumed preferences.

    Parameters
    ----------
    preferences
        Chances with which each person picks the better map.

    Returns
    -------
    pd.DataFrame
        One row for each preference. For each survey, one column has the chance that the people's majority
        picks the better map, and one the power of the sign test (5 %) over the decided questions.
    """
    rows = []
    for preference in preferences:
        row = {"chance of each person": preference}
        for s in SURVEYS:
            n, won = s.lsft + s.grad_cam, majority(s.people, preference)
            row |= {f"majority of {s.people} for it": won, f"{n} questions show it": power(n, won)}
        rows.append(row)
    return pd.DataFrame(rows)


def analyse(pooled: Pooled) -> Analysis:
    """Analyse the votes: counts, exact tests, agreement and position bias.

    Parameters
    ----------
    pooled
        The votes of all persons.

    Returns
    -------
    Analysis
        The results.

    Raises
    ------
    InputError
        If no vote counts, or statsmodels is not installed.
    """
    votes, (first, second) = pooled.votes, pooled.methods
    if votes.empty:
        raise InputError(
            "none of the files holds an answer that counts: see the problem reported for each file."
        )
    questions = _counted(pooled)
    wins, losses = (int((questions["winner"] == method).sum()) for method in (first, second))
    sign = {first: 1, second: -1, "tie": 0}
    for_first = votes["choice"].map(sign)
    for_left = for_first * votes["left"].map(sign)  # 1 where the chosen method is on the left
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
    """Test whether votes (1, -1; 0 is a tie) lean to one side, by flipping the signs of whole persons."""
    decided = signs[signs != 0]
    if decided.empty:
        return None
    share, net = float((decided > 0).mean()), signs.groupby(person).sum().to_numpy()
    if len(net) == 1 or not net.any():  # every flip is equally extreme
        return VoteTest(share, 1.0)
    rng = np.random.default_rng(0)
    found = permutation_test((net,), np.sum, permutation_type="samples", n_resamples=9999, rng=rng)
    return VoteTest(share, float(found.pvalue))


def _agreement(votes: pd.DataFrame, n_questions: int) -> Agreement:
    try:
        from statsmodels.stats.inter_rater import fleiss_kappa
    except ImportError as error:
        raise InputError("agreement needs the package statsmodels: run `pip install statsmodels`.") from error
    whole = votes[votes.groupby("person")["question"].transform("size") == n_questions]
    n = whole["person"].nunique()
    if n < 2:
        return Agreement(n, None, None, "fewer than two persons answered every question")
    table = pd.crosstab(whole["question"], whole["choice"]).to_numpy()
    pairs = float((table * (table - 1)).sum() / (n_questions * n * (n - 1)))
    if table.shape[1] == 1:
        return Agreement(n, pairs, None, "all votes are alike")
    if n_questions == 1:
        return Agreement(n, pairs, None, "there is only one question")
    return Agreement(n, pairs, float(fleiss_kappa(table)), "")


def summary(found: Analysis) -> pd.DataFrame:
    """List the statistics of a survey.

    Parameters
    ----------
    found
        The results of the survey.

    Returns
    -------
    pd.DataFrame
        One row for each ``statistic``: its ``value``, or "undefined" with the reason, and ``how`` it was
        computed.
    """
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
    """Return counts and statistics as lines of text, each marked "SIMULATED" if the votes are simulated."""
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
    """Plot the questions won by each method, as in Figs. 17 and 18, and the votes on each question below.

    Parameters
    ----------
    found
        The results of the survey.

    Returns
    -------
    Figure
        The plot; its title says so if the votes are simulated.
    """
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
