"""What votes say: exact tests, whole persons, agreement, power, and how it is shown."""

import numpy as np
import pandas as pd
import pytest

from sftgan.companion.chapters import votes
from sftgan.companion.chapters.survey import Pooled
from sftgan.errors import InputError

# Tests


def test_the_published_counts_have_these_exact_tests():
    sixteen, seven = votes.sign_test(16, 3), votes.sign_test(7, 3)
    assert sixteen.share == pytest.approx(16 / 19) and seven.share == 0.7
    assert sixteen.p == pytest.approx(2 * sum([1, 19, 171, 969]) / 2**19)  # 0, 1, 2, 3 of 19
    assert seven.p == pytest.approx(2 * sum([1, 10, 45, 120]) / 2**10)
    assert (sixteen.low, sixteen.high) == pytest.approx((0.6042, 0.9662), abs=1e-4)  # Clopper-Pearson
    assert votes.sign_test(10, 0).high == 1.0


def test_power():
    assert votes.power(10, 0.5) == pytest.approx(2 * (1 + 10) / 2**10)  # 0, 1, 9, 10 of 10 reject
    assert votes.power(10, 0.9) == pytest.approx(0.9**10 + 10 * 0.9**9 * 0.1, abs=1e-6)
    assert votes.power(100, 0.7) > 0.97 and votes.power(10, 1.0) == 1.0
    assert votes.power(5, 1.0) == 0.0, "five questions cannot be significant"


@pytest.mark.parametrize("n", [10, 19])
def test_the_smallest_share_is_found_and_the_next_smaller_is_not(n):
    share = votes.smallest_share(n)
    assert votes.power(n, share) >= 0.8 > votes.power(n, share - 0.01)


def test_too_few_questions_find_no_share():
    assert votes.smallest_share(5) is None
    curve = votes.power_curve(5)
    assert curve["share"].iloc[[0, -1]].tolist() == [0.5, 1.0] and (curve["power"] == 0).all()


def test_majorities_are_exact():
    assert votes.majority(25, 0.5) == pytest.approx(0.5) and votes.majority(3, 0.6) == pytest.approx(0.648)
    assert votes.majority(2, 0.6) == pytest.approx(0.36), "one of two is no majority"


def test_the_published_counts_as_a_table():
    table = votes.published()
    assert table["survey"].tolist() == ["classification (Fig. 17)", "captioning (Fig. 18)"]
    assert table[["LSFT", "tie", "Grad-CAM"]].to_numpy().tolist() == [[16, 1, 3], [7, 0, 3]]
    assert table["share won by LSFT"][0] == "0.84 [0.60, 0.97]" and table["p"].tolist() == [
        "0.0044",
        "0.3438",
    ]


def test_what_the_published_surveys_could_find():
    table = votes.reach([0.5, 0.6]).set_index("chance of each person")
    assert table.columns.tolist() == ["majority of 25 for it", "19 questions show it", "10 questions show it"]
    assert table.loc[0.5].tolist() == pytest.approx([0.5, votes.power(19, 0.5), votes.power(10, 0.5)])
    won = votes.majority(25, 0.6)
    assert table.loc[0.6].tolist() == pytest.approx([won, votes.power(19, won), votes.power(10, won)])


# The analysis


def pooled(rows, simulated=False, captions=None):
    columns = ["person", "question", "choice", "left", "seconds"]
    frame = pd.DataFrame([[*row, 1.0] for row in rows], columns=columns)
    captions = captions or {q: f"class {q}" for q in frame["question"].unique()}
    return Pooled(frame, pd.DataFrame(), simulated, ("A", "B"), captions)


def analysed(rows, **of):
    return votes.analyse(pooled(rows, **of))


def test_questions_are_won_by_majorities():
    found = analysed([
        ("p", "1", "A", "A"), ("q", "1", "A", "B"), ("r", "1", "B", "B"),
        ("p", "2", "B", "A"), ("q", "2", "tie", "B"), ("r", "2", "B", "B"),
        ("p", "3", "A", "A"), ("q", "3", "B", "A"), ("r", "3", "tie", "A"),
    ])  # fmt: skip
    assert found.questions[["A", "tie", "B"]].values.tolist() == [[2, 0, 1], [0, 1, 2], [1, 1, 1]]
    assert found.questions["winner"].tolist() == ["A", "B", "tie"]
    assert found.by_question.share == 0.5 and found.by_question.p == 1
    assert found.left.share == pytest.approx(4 / 7) and found.persons == 3


def test_a_question_without_a_vote_is_in_the_table_and_won_by_nobody():
    found = analysed([("p", "2", "A", "A"), ("q", "2", "tie", "A")], captions={"1": "x", "2": "y", "3": "z"})
    assert found.questions.values.tolist() == [
        ["1", "x", 0, 0, 0, "no vote"], ["2", "y", 1, 1, 0, "A"], ["3", "z", 0, 0, 0, "no vote"],
    ]  # fmt: skip
    assert "questions won: A 1, tie 0, B 0, no vote 2" in votes.report(found)


def test_whole_persons_are_flipped_not_votes():
    """Three persons with ten votes each for A: 2 of 8 sign patterns are as extreme, whatever the number of votes."""
    found = analysed([(p, str(q), "A", "A") for p in "pqr" for q in range(10)])
    assert found.by_vote == (1.0, pytest.approx(2 / 8))
    assert found.by_question.p < 0.01, "as questions they would be sure"


def test_the_left_map_is_tested_by_whole_persons_too():
    """Three persons who always take the left map: as 30 independent votes this would be certain."""
    rows = [(p, str(q), "AB"[q % 2], "AB"[q % 2]) for p in "pqr" for q in range(10)]
    found = analysed(rows)
    assert found.left == (1.0, pytest.approx(2 / 8)) and found.by_vote == (0.5, 1.0)
    right = analysed([(p, q, choice, "BA"["AB".index(left)]) for p, q, choice, left in rows])
    assert right.left == (0.0, pytest.approx(2 / 8))
    tied = analysed([*rows, *((p, "10", "tie", "A") for p in "pqr")])
    assert tied.left == found.left, "a tie is on no side"


def test_agreement_is_fleiss_kappa_and_the_share_of_agreeing_pairs():
    agreed = [(p, str(q), "A" if q % 2 else "B", "A") for p in "pqrs" for q in range(6)]
    found = analysed(agreed).agreement
    assert found.kappa == pytest.approx(1.0) and found.pairs == 1 and found.persons == 4
    # two persons, two questions: agree on one, not on the other. P = 1/2, Pe = (3/4)**2 + (1/4)**2
    found = analysed([("p", "1", "A", "A"), ("q", "1", "A", "A"), ("p", "2", "A", "A"), ("q", "2", "B", "A")])
    assert found.agreement.pairs == 1 / 2
    assert found.agreement.kappa == pytest.approx((1 / 2 - 10 / 16) / (1 - 10 / 16))
    partly = analysed([*agreed, ("t", "0", "A", "A")]).agreement
    assert partly.persons == 4 and partly.kappa == pytest.approx(1.0), "whoever stopped early spoils nothing"
    # three persons, two questions: 1 and 3 of the 3 pairs agree
    votes_of_three = [(p, "1", vote, "A") for p, vote in zip("pqr", "AAB", strict=True)]
    assert analysed([*votes_of_three, *((p, "2", "A", "A") for p in "pqr")]).agreement.pairs == 4 / 6


def test_undefined_statistics_say_why():
    alone = analysed([("p", "1", "A", "A"), ("p", "2", "A", "A"), ("p", "3", "B", "A")])
    assert alone.by_vote == (pytest.approx(2 / 3), 1.0), "one person proves nothing"
    assert alone.agreement == (1, None, None, "fewer than two persons answered every question")
    alike = analysed([(p, q, "A", "A") for p in "pq" for q in "12"])
    assert alike.agreement == (2, 1.0, None, "all votes are alike")
    single = analysed([("p", "0", "A", "A"), ("q", "0", "B", "A")])
    assert single.agreement == (2, 0.0, None, "there is only one question")
    assert single.by_vote == (0.5, pytest.approx(1.0)) and single.by_question is None
    even = analysed([(p, q, vote, "A") for p in "pq" for q, vote in zip("01", "AB", strict=True)])
    assert even.by_vote == (0.5, 1.0), "everybody is even"
    assert "questions won by A: undefined: neither wins a question (exact test)" in votes.report(single)
    assert any("agreement beyond chance: undefined: all votes are alike" in x for x in votes.report(alike))


def test_ties_only_decide_nothing():
    found = analysed([("p", "1", "tie", "A"), ("q", "1", "tie", "B")])
    assert found.by_question is None and found.by_vote is None and found.left is None
    assert found.questions["winner"].tolist() == ["tie"]
    table = votes.summary(found).set_index("statistic")["value"]
    assert table["votes for A"] == table["votes for the left map"] == "undefined: every vote is a tie"
    with pytest.raises(InputError, match="none of the files holds an answer that counts"):
        analysed([])


# What is shown

ROWS = [(p, q, vote, "A") for p in "pqr" for q, vote in zip("123", ["A", "B", "A"], strict=True)]


def test_the_report_has_the_captions_beside_the_questions():
    lines = votes.report(
        analysed(ROWS, captions={"1": "heart", "2": "“a ring”: the word “ring”", "3": "star"})
    )
    assert lines[0] == "persons: 3"
    assert next(line for line in lines if "heart" in line).split() == ["1", "heart", "3", "0", "0", "A"]
    assert any("“a ring”: the word “ring”" in line for line in lines)
    assert "questions won: A 2, tie 0, B 1" in lines
    assert "votes for A: 0.67 (sign flips over persons, p = 0.25)" in lines
    assert (
        "pairs of persons that agree: 1.00 (share of all pairs, persons who answered every question: 3)"
        in lines
    )


def test_every_line_on_simulated_votes_says_so():
    real, invented = (votes.report(analysed(ROWS, simulated=simulated)) for simulated in (False, True))
    assert not any("SIMULATED" in line for line in real)
    assert [line.removeprefix("SIMULATED").strip() for line in invented] == [line.strip() for line in real]
    assert all(line.startswith("SIMULATED") for line in invented)


@pytest.mark.parametrize("simulated", [False, True])
def test_the_figure_has_both_forms(simulated):
    figure = votes.figure(analysed(ROWS, simulated=simulated))
    figure.canvas.draw()
    won, by_question = figure.axes
    assert (won.get_xlabel(), by_question.get_xlabel()) == ("questions", "votes")
    assert [bar.get_width() for bar in won.patches] == [2, 0, 1]
    assert [bar.get_width() for bar in by_question.patches] == [3, 0, 3, 0, 0, 0, 0, 3, 0]
    labels = [text.get_text() for text in by_question.get_yticklabels()]
    assert labels == ["question 1: class 1", "question 2: class 2", "question 3: class 3"]
    assert by_question.get_ylim() == (2.5, -0.5), "no empty band above or below"
    title = figure.get_suptitle()
    assert title == ("simulated votes" if simulated else "")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A", "tie", "B"]
    assert np.isclose(won.get_xlim()[1], 3) and np.isclose(by_question.get_xlim()[1], 3)
