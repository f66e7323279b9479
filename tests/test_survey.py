"""The survey is blinded, every file is accounted for, and the tests are exact."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from sftgan import cli, experiments, survey
from sftgan.errors import InputError
from sftgan.survey import Pooled, Question


def questions(n=4, methods=("LSFT", "Grad-CAM")):
    rng = torch.Generator().manual_seed(0)
    return [
        Question(
            torch.rand(3, 8, 8, generator=rng), f"class {i}",
            {method: torch.rand(8, 8, generator=rng) for method in methods},
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture
def built(tmp_path):
    survey.build(questions(), tmp_path / "survey", "Which <b> is better?")
    return tmp_path / "survey"


def answer(key, choices, person="p1", **changes):
    """An answer file's content: for each question the method chosen, "tie", or None for an open one."""
    answers = []
    for (question, maps), choice in zip(key["questions"].items(), choices, strict=True):
        left, right = maps
        if choice:
            chosen = "tie" if choice == "tie" else next(m for m, method in maps.items() if method == choice)
            answers.append(
                {"question": question, "left": left, "right": right, "choice": chosen, "seconds": 1.5}
            )
    given = {
        "survey": key["survey"], "person": person, "started": "2026-01-01T10:00:00Z",
        "finished": "2026-01-01T10:05:00Z", "answers": answers, "complete": None not in choices,
    }  # fmt: skip
    return given | changes


def write(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


# The page


def test_the_page_names_no_method_and_needs_no_network(built):
    page = re.sub(r"data:image/png;base64,[\w+/=]+", "data:", (built / "survey.html").read_text())
    assert not re.search(r"lsft|grad.?cam|gsft", page, re.IGNORECASE)
    assert not re.search(r"https?://|src=\"(?!data:)|@import|url\(", page)
    assert "Which &lt;b&gt; is better?</title>" in page


def test_maps_are_opaque_numbers_that_say_nothing_of_their_method(tmp_path):
    survey.build(questions(40), tmp_path, "t")
    key = survey.read_key(tmp_path / "key.json")
    maps = [tuple(q.items()) for q in key["questions"].values()]
    ids = [name for pair in maps for name, _ in pair]
    assert len(set(ids)) == 80
    lower_is_first = sum((min(pair)[1] == "LSFT") for pair in maps)
    assert 4 < lower_is_first < 36, "the smaller number belongs to either method"
    content = json.loads(
        re.search(r'json">(.*?)</script>', (tmp_path / "survey.html").read_text(), re.DOTALL)[1]
    )
    for question in content["questions"]:
        assert [m["id"] for m in question["maps"]] == sorted(key["questions"][question["id"]])
        assert set(question) == {"id", "caption", "png", "maps"}


def test_the_numbers_are_drawn_anew_so_that_only_the_key_un_blinds(built, tmp_path):
    survey.build(questions(), tmp_path / "again", "Which <b> is better?")
    first, second = (survey.read_key(folder / "key.json") for folder in (built, tmp_path / "again"))
    assert first["survey"] != second["survey"] and set(first["questions"]) != set(second["questions"])
    assert list(first["captions"].values()) == [f"class {i}" for i in range(4)]


def test_the_key_of_another_survey_is_not_overwritten(built):
    before = (built / "key.json").read_text()
    with pytest.raises(InputError, match=r"is the key of a survey already built.*choose another folder"):
        survey.build(questions(5), built, "another")
    assert (built / "key.json").read_text() == before


def test_no_caption_can_end_the_script(tmp_path):
    (asked,) = questions(1)
    survey.build([Question(asked.image, "<!--<script></script>", asked.maps)], tmp_path, "t")
    page = (tmp_path / "survey.html").read_text(encoding="utf-8")
    assert page.count("<script") == 2 and page.count("</script>") == 2 and "<!--" not in page


@pytest.mark.parametrize(
    "asked", [[], questions(1, ("LSFT",)), questions(1) + questions(1, ("GSFT", "Grad-CAM"))]
)
def test_questions_that_do_not_compare_the_same_two_methods_are_refused(asked, tmp_path):
    with pytest.raises(InputError, match="compares the same two methods in every question"):
        survey.build(asked, tmp_path, "t")


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to .*choose another folder"):
        survey.build(questions(), tmp_path / "file", "t")


# The answers


def test_votes_are_those_of_the_files(built, tmp_path):
    key = survey.read_key(built / "key.json")
    write(tmp_path / "a", "answers-1.json", answer(key, ["LSFT", "Grad-CAM", "tie", "LSFT"]))
    pooled = survey.read_answers(tmp_path / "a", key)
    assert pooled.votes["choice"].tolist() == ["LSFT", "Grad-CAM", "tie", "LSFT"]
    assert pooled.votes["question"].tolist() == list(key["questions"])
    lefts = [next(iter(maps.values())) for maps in key["questions"].values()]
    assert pooled.votes["left"].tolist() == lefts and (pooled.votes["seconds"] == 1.5).all()
    assert pooled.problems.empty and pooled.simulated == 0 and pooled.methods == ("LSFT", "Grad-CAM")


def test_every_file_that_is_not_counted_is_reported(built, tmp_path):
    key, folder = survey.read_key(built / "key.json"), tmp_path / "answers"
    good = ["LSFT"] * 4
    write(folder, "answers-ok.json", answer(key, good, "ok"))
    write(folder, "notes.txt", "hello")
    write(folder, "no.json", "{ not json")
    write(folder, "malformed.json", {"survey": key["survey"]})
    write(folder, "other.json", answer(key, good, "x", survey="0123456789ab"))
    write(folder, "extra.json", answer(key, good, "x") | {"admin": True})
    unknown = answer(key, good, "x")
    unknown["answers"][0]["question"] = "q0"
    write(folder, "question.json", unknown)
    wrong = answer(key, good, "x")
    wrong["answers"][0]["choice"] = wrong["answers"][1]["choice"]
    write(folder, "map.json", wrong)
    twice = answer(key, good, "x")
    twice["answers"].append(twice["answers"][0])
    write(folder, "twice.json", twice)
    (folder / "sub").mkdir()
    pooled = survey.read_answers(folder, key)
    said = dict(zip(pooled.problems["file"], pooled.problems["what"], strict=True))
    assert not pooled.problems["counted"].any()
    assert set(pooled.votes["person"]) == {"ok"} and len(pooled.votes) == 4
    expected = {
        "notes.txt": "foreign", "no.json": "malformed at the file", "malformed.json": "malformed at person",
        "other.json": "of another survey, 0123456789ab", "extra.json": "malformed at admin",
        "question.json": "unknown question q0", "map.json": "unknown map in question", "sub": "foreign",
        "twice.json": "is answered twice",
    }  # fmt: skip
    assert set(said) == set(expected)
    for file, what in expected.items():
        assert what in said[file], file


def test_partial_answers_count_and_are_reported(built, tmp_path):
    key = survey.read_key(built / "key.json")
    write(tmp_path / "a", "part.json", answer(key, ["LSFT", None, "tie", None]))
    pooled = survey.read_answers(tmp_path / "a", key)
    assert len(pooled.votes) == 2
    assert pooled.problems.to_dict("records") == [
        {"file": "part.json", "what": "partial: 2 of 4 questions are open", "counted": True}
    ]


@pytest.mark.parametrize("first, later", [("a.json", "b.json"), ("b.json", "a.json")])
def test_of_a_persons_two_files_the_later_one_counts(built, tmp_path, first, later):
    key = survey.read_key(built / "key.json")
    write(tmp_path / "a", first, answer(key, ["LSFT"] * 4))
    write(tmp_path / "a", later, answer(key, ["tie"] * 4, finished="2026-01-01T11:00:00Z"))
    pooled = survey.read_answers(tmp_path / "a", key)
    assert set(pooled.votes["choice"]) == {"tie"} and len(pooled.votes) == 4
    assert pooled.problems["file"].tolist() == [first]
    assert "the same person" in pooled.problems["what"][0] and not pooled.problems["counted"][0]


def test_a_copy_is_called_a_copy_and_times_need_a_zone(built, tmp_path):
    key = survey.read_key(built / "key.json")
    given = answer(key, ["LSFT"] * 4)
    write(tmp_path / "a", "a.json", "\ufeff" + json.dumps(given))  # as some editors save it
    write(tmp_path / "a", "a (1).json", given)
    write(tmp_path / "a", "b.json", answer(key, ["LSFT"] * 4, "p2", finished="2026-01-01T10:05:00"))
    pooled = survey.read_answers(tmp_path / "a", key)
    said = dict(zip(pooled.problems["file"], pooled.problems["what"], strict=True))
    assert said["a.json"] == "a copy of a (1).json" and "malformed at finished" in said["b.json"]
    assert set(pooled.votes["person"]) == {"p1"}


def test_no_answers_and_no_key_are_said(built, tmp_path):
    key = survey.read_key(built / "key.json")
    with pytest.raises(InputError, match="holds no answers: put the answers"):
        survey.read_answers(tmp_path / "nowhere", key)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no answers"):
        survey.read_answers(tmp_path / "empty", key)
    for file in (tmp_path / "missing.json", built / "survey.html"):
        with pytest.raises(InputError, match=r"is not the key.json that `sftgan survey build` wrote"):
            survey.read_key(file)


# The analysis


def test_the_published_counts_have_these_exact_tests():
    sixteen, seven = survey.sign_test(16, 3), survey.sign_test(7, 3)
    assert sixteen.share == pytest.approx(16 / 19) and seven.share == 0.7
    assert sixteen.p == pytest.approx(2 * sum([1, 19, 171, 969]) / 2**19)  # 0, 1, 2, 3 of 19
    assert seven.p == pytest.approx(2 * sum([1, 10, 45, 120]) / 2**10)
    assert (sixteen.low, sixteen.high) == pytest.approx((0.6042, 0.9662), abs=1e-4)  # Clopper-Pearson
    assert survey.sign_test(10, 0).high == 1.0


def test_power():
    assert survey.power(10, 0.5) == pytest.approx(2 * (1 + 10) / 2**10)  # 0, 1, 9, 10 of 10 reject
    assert survey.power(10, 0.9) == pytest.approx(0.9**10 + 10 * 0.9**9 * 0.1, abs=1e-6)
    assert survey.power(100, 0.7) > 0.97 and survey.power(10, 1.0) == 1.0
    assert survey.power(5, 1.0) == 0.0, "five questions cannot be significant"


def pooled(rows):
    n_questions = len({row[1] for row in rows})
    columns = ["person", "question", "choice", "left", "seconds"]
    frame = pd.DataFrame([[*row, 1.0] for row in rows], columns=columns)
    return Pooled(frame, pd.DataFrame(), 0, ("A", "B"), n_questions)


def test_questions_are_won_by_majorities():
    found = survey.analyse(pooled([
        ("p", "1", "A", "A"), ("q", "1", "A", "B"), ("r", "1", "B", "B"),
        ("p", "2", "B", "A"), ("q", "2", "tie", "B"), ("r", "2", "B", "B"),
        ("p", "3", "A", "A"), ("q", "3", "B", "A"), ("r", "3", "tie", "A"),
    ]))  # fmt: skip
    assert found.questions[["A", "tie", "B"]].values.tolist() == [[2, 0, 1], [0, 1, 2], [1, 1, 1]]
    assert found.questions["winner"].tolist() == ["A", "B", "tie"]
    assert found.by_question.share == 0.5 and found.by_question.p == 1
    assert found.left.share == pytest.approx(4 / 7)


def test_whole_persons_are_flipped_not_votes():
    """Three persons with ten votes each for A: 2 of 8 sign patterns are as extreme, whatever the number of votes."""
    found = survey.analyse(pooled([(p, str(q), "A", "A") for p in "pqr" for q in range(10)]))
    assert found.by_vote == (1.0, pytest.approx(2 / 8))
    assert found.by_question.p < 0.01, "as questions they would be sure"


def test_agreement_is_fleiss_kappa():
    agreed = [(p, str(q), "A" if q % 2 else "B", "A") for p in "pqrs" for q in range(6)]
    found = survey.analyse(pooled(agreed))
    assert found.kappa == pytest.approx(1.0) and found.n_kappa == 4
    # two persons, two questions: agree on one, not on the other. P = 1/2, Pe = (3/4)**2 + (1/4)**2
    found = survey.analyse(
        pooled([("p", "1", "A", "A"), ("q", "1", "A", "A"), ("p", "2", "A", "A"), ("q", "2", "B", "A")])
    )
    assert found.kappa == pytest.approx((1 / 2 - 10 / 16) / (1 - 10 / 16))
    alone = survey.analyse(pooled([("p", "1", "A", "A"), ("p", "2", "A", "A"), ("p", "3", "B", "A")]))
    assert alone.kappa is None and alone.by_vote == (pytest.approx(2 / 3), 1.0), "one person proves nothing"
    partly = survey.analyse(pooled([*agreed, ("t", "0", "A", "A")]))
    assert partly.n_kappa == 4 and partly.kappa == pytest.approx(1.0), "whoever stopped early spoils nothing"
    single = survey.analyse(pooled([(p, "0", vote, "A") for p, vote in zip("pq", "AB", strict=True)]))
    assert single.kappa is None and single.by_vote == (0.5, pytest.approx(1.0))
    even = survey.analyse(
        pooled([(p, q, vote, "A") for p in "pq" for q, vote in zip("01", "AB", strict=True)])
    )
    assert even.by_vote == (0.5, 1.0), "everybody is even"


def test_ties_only_decide_nothing():
    found = survey.analyse(pooled([("p", "1", "tie", "A"), ("q", "1", "tie", "B")]))
    assert found.by_question is None and found.by_vote is None and found.left is None
    with pytest.raises(InputError, match="none of the files holds an answer that counts"):
        survey.analyse(pooled([]))


def test_simulated_persons_are_marked_and_follow_their_preference(tmp_path):
    survey.build(questions(20), tmp_path, "t")
    key = survey.read_key(tmp_path / "key.json")
    survey.simulate(key, 30, preference=0.8, tie=0.2, out=tmp_path / "a", seed=3)
    found = survey.read_answers(tmp_path / "a", key)
    assert found.simulated == 30 and found.problems.empty and len(found.votes) == 600
    assert all(person.startswith("simulated-") for person in found.votes["person"])
    share = found.votes["choice"].value_counts(normalize=True)
    assert share["tie"] == pytest.approx(0.2, abs=0.06) and share["LSFT"] == pytest.approx(0.64, abs=0.06)
    assert 0.4 < (found.votes["left"] == "LSFT").mean() < 0.6
    for file in (tmp_path / "a").iterdir():
        assert json.loads(file.read_text())["simulated"] is True
    lines = "\n".join(survey.report(found))
    assert "30 persons, 30 of them simulated" in lines and "questions won: LSFT" in lines
    assert np.isfinite(survey.analyse(found).kappa)


# The command


def sftgan(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    return stop.value.code


def test_the_command_builds_a_survey_and_analyses_its_answers(tmp_path, monkeypatch, capsys):
    asked = []

    def drawn(study, methods, n, task):
        asked.append((study.seed, study.profile.eta, methods, n, task))
        return questions(n, methods)

    monkeypatch.setattr(experiments, "questions", drawn)
    out = tmp_path / "mine"
    options = ("--questions", 5, "--second", "GSFT", "--task", "captioning", "-p", "eta", 4, "-p", "seed", 3)
    assert sftgan("survey", "build", out, *options) == 0
    assert asked == [(3, 4, ("LSFT", "GSFT"), 5, "captioning")]
    assert f"{out / 'survey.html'}: send it around" in capsys.readouterr().out

    key = survey.read_key(out / "key.json")
    write(tmp_path / "answers", "one.json", answer(key, ["LSFT", "LSFT", "GSFT", "tie", "LSFT"], "p1"))
    write(tmp_path / "answers", "two.json", answer(key, ["LSFT", "tie", "GSFT", "GSFT", "LSFT"], "p2"))
    write(tmp_path / "answers", "notes.txt", "")
    votes = tmp_path / "votes.csv"
    assert sftgan("survey", "analyse", tmp_path / "answers", "--key", out / "key.json", "--votes", votes) == 0
    said = capsys.readouterr().out
    assert "notes.txt: foreign: not an answers-*.json file (not counted)" in said
    assert "2 persons, 0 of them simulated" in said and "questions won: LSFT 3, tie 0, GSFT 2" in said
    assert len(pd.read_csv(votes)) == 10

    write(tmp_path / "bad", "notes.txt", "")
    assert sftgan("survey", "analyse", tmp_path / "bad", "--key", out / "key.json", "--votes", votes) == 2
    said, sentence = capsys.readouterr()
    assert "notes.txt: foreign" in said and "none of the files holds an answer" in sentence


def test_the_command_answers_bad_input_in_one_sentence(tmp_path, capsys):
    assert sftgan("survey", "analyse", tmp_path, "--key", tmp_path / "key.json") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sftgan("survey", "build", tmp_path / "x", "-p", "eta", 99) == 2
    assert "choose at most 13" in capsys.readouterr().err
