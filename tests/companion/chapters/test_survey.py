"""The survey is blinded, and every file that comes back is accounted for."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from sftgan import cli
from sftgan.companion.chapters import survey
from sftgan.companion.chapters.survey import Question
from sftgan.errors import InputError


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


@pytest.fixture
def key(built):
    return survey.read_key(built / "key.json")


def answer(key, choices, person="p1", **changes):
    """An answer file's content: for each question the method chosen, "tie", or None for an open one."""
    answers = []
    for (question, asked), choice in zip(key.questions.items(), choices, strict=True):
        left, right = asked.maps
        ids = {method: m for m, method in asked.maps.items()} | {"tie": "tie"}
        if choice:
            given = {
                "question": question,
                "left": left,
                "right": right,
                "choice": ids[choice],
                "seconds": 1.5,
            }
            answers.append(given)
    started = f"2026-01-01T10:00:00.{sum(person.encode()):03}Z"  # other persons begin at other milliseconds
    given = {
        "survey": key.survey, "person": person, "started": started,
        "finished": "2026-01-01T10:05:00Z", "answers": answers, "complete": None not in choices,
    }  # fmt: skip
    return given | changes


def write(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def problems(pooled) -> dict[str, str]:
    """What is reported of each file that is not counted."""
    return {row.file: row.what for row in pooled.problems.itertuples() if not row.counted}


GOOD = ["LSFT"] * 4

# The page


def test_the_page_names_no_method_and_needs_no_network(built):
    page = re.sub(r"data:image/png;base64,[\w+/=]+", "data:", (built / "survey.html").read_text())
    assert not re.search(r"lsft|grad.?cam|gsft", page, re.IGNORECASE)
    assert not re.search(r"https?://|src=\"(?!data:)|@import|url\(", page)
    assert "Which &lt;b&gt; is better?</title>" in page


def test_the_page_says_that_the_line_below_a_picture_may_be_wrong(built):
    page = (built / "survey.html").read_text()
    assert "The line below each picture is what a neural network says about it, right or wrong." in page


def test_maps_are_opaque_numbers_that_say_nothing_of_their_method(tmp_path):
    survey.build(questions(40), tmp_path, "t")
    key = survey.read_key(tmp_path / "key.json")
    maps = [tuple(asked.maps.items()) for asked in key.questions.values()]
    ids = [name for pair in maps for name, _ in pair]
    assert len(set(ids)) == 80
    lower_is_first = sum((min(pair)[1] == "LSFT") for pair in maps)
    assert 4 < lower_is_first < 36, "the smaller number belongs to either method"
    content = json.loads(
        re.search(r'json">(.*?)</script>', (tmp_path / "survey.html").read_text(), re.DOTALL)[1]
    )
    for question in content["questions"]:
        assert [m["id"] for m in question["maps"]] == sorted(key.questions[question["id"]].maps)
        assert set(question) == {"id", "caption", "png", "maps"}


def test_the_numbers_are_drawn_anew_so_that_only_the_key_un_blinds(built, tmp_path):
    survey.build(questions(), tmp_path / "again", "Which <b> is better?")
    first, second = (survey.read_key(folder / "key.json") for folder in (built, tmp_path / "again"))
    assert first.survey != second.survey and set(first.questions) != set(second.questions)
    assert [asked.caption for asked in first.questions.values()] == [f"class {i}" for i in range(4)]


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


def test_more_questions_than_there_are_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="at most 3000 questions, not 3001: ask fewer"):
        survey.build(questions(1) * 3001, tmp_path, "t")
    assert not (tmp_path / "key.json").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to .*choose another folder"):
        survey.build(questions(), tmp_path / "file", "t")


# The key


def changed(**changes):
    def change(key):
        return key | changes

    return change


def second_map(method):
    def change(key):
        asked = next(iter(key["questions"].values()))
        asked["maps"] = dict(zip(asked["maps"], ("LSFT", method), strict=True))
        return key

    return change


@pytest.mark.parametrize(
    "change, why",
    [
        (changed(questions=[]), "questions: Input should be an object"),
        (changed(questions={}), "questions: Dictionary should have at least 1 item"),
        (changed(methods=["LSFT"]), "methods.1: Field required"),
        (changed(methods="LSFT"), "methods: Input should be a valid array"),
        (changed(methods=["LSFT", "LSFT"]), "does not compare the same two methods"),
        (changed(survey=7), "survey: Input should be a valid string"),
        (second_map("GSFT"), "does not compare the same two methods"),
        (second_map("LSFT"), "does not compare the same two methods"),
        (lambda key: [key], "the file: Input should be an object"),
    ],
)
def test_what_is_wrong_with_a_key_is_said_in_one_sentence(built, change, why):
    write(built, "bad.json", change(json.loads((built / "key.json").read_text())))
    with pytest.raises(InputError, match=r"is not the key.json that `sftgan survey build` wrote") as raised:
        survey.read_key(built / "bad.json")
    assert why in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_is_no_key_is_said(built, tmp_path):
    (tmp_path / "latin.json").write_bytes(b'{"survey": "\xff"}')
    for file in (tmp_path / "missing.json", tmp_path, tmp_path / "latin.json", built / "survey.html"):
        with pytest.raises(InputError, match=r"is not the key.json that `sftgan survey build` wrote"):
            survey.read_key(file)


# The answers


def test_votes_are_those_of_the_files(key, tmp_path):
    write(tmp_path / "a", "answers-1.json", answer(key, ["LSFT", "Grad-CAM", "tie", "LSFT"]))
    pooled = survey.read_answers(tmp_path / "a", key)
    assert pooled.votes["choice"].tolist() == ["LSFT", "Grad-CAM", "tie", "LSFT"]
    assert pooled.votes["question"].tolist() == list(key.questions)
    lefts = [next(iter(asked.maps.values())) for asked in key.questions.values()]
    assert pooled.votes["left"].tolist() == lefts and (pooled.votes["seconds"] == 1.5).all()
    assert pooled.problems.empty and not pooled.simulated and pooled.methods == ("LSFT", "Grad-CAM")
    assert pooled.captions == {name: f"class {i}" for i, name in enumerate(key.questions)}


def test_every_file_that_is_not_counted_is_reported(key, tmp_path):
    folder = tmp_path / "answers"
    write(folder, "answers-ok.json", answer(key, GOOD, "ok"))
    write(folder, "notes.txt", "hello")
    write(folder, "no.json", "{ not json")
    write(folder, "malformed.json", {"survey": key.survey})
    write(folder, "other.json", answer(key, GOOD, "x", survey="0123456789ab"))
    write(folder, "extra.json", answer(key, GOOD, "x") | {"admin": True})
    unknown = answer(key, GOOD, "x")
    unknown["answers"][0]["question"] = "q0"
    write(folder, "question.json", unknown)
    wrong = answer(key, GOOD, "x")
    wrong["answers"][0]["choice"] = wrong["answers"][1]["choice"]
    write(folder, "map.json", wrong)
    twice = answer(key, GOOD, "x")
    twice["answers"].append(twice["answers"][0])
    write(folder, "twice.json", twice)
    (folder / "sub").mkdir()
    pooled = survey.read_answers(folder, key)
    said = problems(pooled)
    assert not pooled.problems["counted"].any()
    assert set(pooled.votes["person"]) == {"ok"} and len(pooled.votes) == 4
    expected = {
        "notes.txt": "foreign", "no.json": "malformed at the file", "malformed.json": "malformed at person",
        "other.json": "of another survey, '0123456789ab'", "extra.json": "malformed at admin",
        "question.json": "unknown question 'q0'", "map.json": "unknown map in question", "sub": "foreign",
        "twice.json": "is answered twice",
    }  # fmt: skip
    assert set(said) == set(expected)
    for file, what in expected.items():
        assert what in said[file], file


@pytest.mark.parametrize(
    "changes, what",
    [
        ({"finished": "2026-01-01T09:59:00Z"}, "finished before it was started"),
        ({"complete": False}, "says that it is not complete, but 0 of 4 questions are open"),
        ({"complete": "yes"}, "malformed at complete: Input should be a valid boolean"),
        ({"complete": 1}, "malformed at complete: Input should be a valid boolean"),
        ({"simulated": 1}, "malformed at simulated: Input should be a valid boolean"),
        ({"started": 5}, "malformed at started: Input should be a valid datetime"),
        ({"finished": "2026-01-01T10:05:00"}, "malformed at finished: Input should have timezone info"),
        ({"person": 7}, "malformed at person: Input should be a valid string"),
    ],
)
def test_inconsistent_files_are_not_counted(key, tmp_path, changes, what):
    write(tmp_path / "a", "bad.json", answer(key, GOOD) | changes)
    write(tmp_path / "a", "good.json", answer(key, GOOD, "other"))
    pooled = survey.read_answers(tmp_path / "a", key)
    assert problems(pooled) == {"bad.json": what} and set(pooled.votes["person"]) == {"other"}


@pytest.mark.parametrize("seconds", ["1e400", "Infinity", "NaN", "-1", '"5"', "true"])
def test_seconds_are_finite_numbers(key, tmp_path, seconds):
    text = json.dumps(answer(key, GOOD)).replace('"seconds": 1.5', f'"seconds": {seconds}')
    write(tmp_path / "a", "bad.json", text)
    pooled = survey.read_answers(tmp_path / "a", key)
    assert pooled.votes.empty and "malformed at answers.0.seconds" in problems(pooled)["bad.json"]


def test_partial_answers_count_and_are_reported(key, tmp_path):
    write(tmp_path / "a", "part.json", answer(key, ["LSFT", None, "tie", None]))
    pooled = survey.read_answers(tmp_path / "a", key)
    assert len(pooled.votes) == 2
    assert pooled.problems.to_dict("records") == [
        {"file": "part.json", "what": "partial: 2 of 4 questions are open", "counted": True}
    ]
    write(tmp_path / "a", "part.json", answer(key, ["LSFT", None, "tie", None], complete=True))
    pooled = survey.read_answers(tmp_path / "a", key)
    assert pooled.votes.empty
    assert problems(pooled)["part.json"] == "says that it is complete, but 2 of 4 questions are open"


def test_a_file_without_answers_is_nobody(key, tmp_path):
    write(tmp_path / "a", "empty.json", answer(key, [None] * 4, finished="2026-01-01T12:00:00Z"))
    write(tmp_path / "a", "good.json", answer(key, GOOD))
    pooled = survey.read_answers(tmp_path / "a", key)
    assert problems(pooled) == {"empty.json": "partial: no question is answered"}
    assert len(pooled.votes) == 4, "though finished later it does not stand for the person's answers"


@pytest.mark.parametrize("first, later", [("a.json", "b.json"), ("b.json", "a.json")])
def test_of_a_persons_two_files_the_later_one_counts(key, tmp_path, first, later):
    write(tmp_path / "a", first, answer(key, GOOD))
    write(tmp_path / "a", later, answer(key, ["tie"] * 4, finished="2026-01-01T11:00:00Z"))
    pooled = survey.read_answers(tmp_path / "a", key)
    assert set(pooled.votes["choice"]) == {"tie"} and len(pooled.votes) == 4
    assert problems(pooled) == {first: f"the same person as {later}, which was finished later"}


def test_of_two_files_finished_at_once_it_is_not_said_that_one_was_later(key, tmp_path):
    write(tmp_path / "a", "a.json", answer(key, GOOD))
    write(tmp_path / "a", "b.json", answer(key, ["tie"] * 4))
    pooled = survey.read_answers(tmp_path / "a", key)
    assert problems(pooled) == {
        "b.json": "the same person and finishing time as a.json, but not the same content"
    }
    assert set(pooled.votes["choice"]) == {"LSFT"}


def test_a_copy_is_called_a_copy(key, tmp_path):
    given = answer(key, GOOD)
    write(tmp_path / "a", "a.json", "\ufeff" + json.dumps(given))  # as some editors save it
    write(tmp_path / "a", "a (1).json", given)
    pooled = survey.read_answers(tmp_path / "a", key)
    assert problems(pooled) == {"a.json": "a copy of a (1).json"} and len(pooled.votes) == 4


def test_one_persons_answers_under_several_names_are_one_person(key, tmp_path):
    given = answer(key, ["LSFT", "tie", "Grad-CAM", "LSFT"])
    for person in ("p1", "p2", "p3"):
        write(tmp_path / "a", f"{person}.json", given | {"person": person})
    write(tmp_path / "a", "later.json", given | {"person": "p4", "finished": "2026-01-01T10:06:00Z"})
    turned = {"person": "p5", "answers": given["answers"][::-1]}
    write(tmp_path / "a", "turned.json", given | turned)
    write(tmp_path / "a", "other.json", answer(key, ["LSFT", "tie", "Grad-CAM", "LSFT"], "another"))
    pooled = survey.read_answers(tmp_path / "a", key)
    said = "the same answers as later.json under another name"
    assert problems(pooled) == {f"{name}.json": said for name in ("p1", "p2", "p3", "turned")}
    assert set(pooled.votes["person"]) == {"p4", "another"}, "equal choices of two persons are no copy"


def test_a_renamed_copy_of_a_replaced_file_is_found(key, tmp_path):
    first = answer(key, ["LSFT", None, None, None])
    write(tmp_path / "a", "a.json", first)
    write(tmp_path / "a", "b.json", answer(key, GOOD, finished="2026-01-01T11:00:00Z"))
    write(tmp_path / "a", "c.json", first | {"person": "somebody else"})
    pooled = survey.read_answers(tmp_path / "a", key)
    assert problems(pooled) == {
        "a.json": "the same person as b.json, which was finished later",
        "c.json": "the same answers as a.json under another name",
    }


def test_simulated_answers_never_mix_with_real_ones(key, tmp_path):
    survey.simulate(key, 3, preference=0.7, tie=0.1, out=tmp_path / "a")
    assert survey.read_answers(tmp_path / "a", key).simulated
    write(tmp_path / "a", "real.json", answer(key, GOOD))
    pooled = survey.read_answers(tmp_path / "a", key)
    assert not pooled.simulated and set(pooled.votes["person"]) == {"p1"}
    said = "simulated, beside real answers"
    assert problems(pooled) == {f"answers-simulated-0-{k}.json": said for k in range(3)}


def test_a_folder_without_answers_is_said(key, tmp_path, monkeypatch):
    for folder in (tmp_path / "nowhere", tmp_path / "survey" / "key.json"):
        with pytest.raises(InputError, match=r"the answers cannot be read .*give the folder of the answers"):
            survey.read_answers(folder, key)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no answers: put the answers"):
        survey.read_answers(tmp_path / "empty", key)

    def denied(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(InputError, match="the answers cannot be read .*Permission denied"):
        survey.read_answers(tmp_path, key)


def test_a_file_that_may_not_be_looked_at_is_reported(key, tmp_path, monkeypatch):
    write(tmp_path / "a", "a.json", answer(key, GOOD))

    def denied(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", denied)
    assert "cannot be read" in problems(survey.read_answers(tmp_path / "a", key))["a.json"]


# Invented answers


def test_simulated_persons_are_marked_and_follow_their_preference(tmp_path):
    survey.build(questions(20), tmp_path, "t")
    key = survey.read_key(tmp_path / "key.json")
    survey.simulate(key, 30, preference=0.8, tie=0.2, out=tmp_path / "a", seed=3)
    found = survey.read_answers(tmp_path / "a", key)
    assert found.simulated and found.problems.empty and len(found.votes) == 600
    assert all(person.startswith("simulated-") for person in found.votes["person"])
    share = found.votes["choice"].value_counts(normalize=True)
    assert share["tie"] == pytest.approx(0.2, abs=0.06) and share["LSFT"] == pytest.approx(0.64, abs=0.06)
    assert 0.4 < (found.votes["left"] == "LSFT").mean() < 0.6
    for file in (tmp_path / "a").iterdir():
        assert json.loads(file.read_text())["simulated"] is True


def test_many_simulated_persons_with_one_question_are_no_copies(tmp_path):
    survey.build(questions(1), tmp_path, "t")
    key = survey.read_key(tmp_path / "key.json")
    survey.simulate(key, 400, preference=1, tie=0, out=tmp_path / "a")
    assert len(survey.read_answers(tmp_path / "a", key).votes) == 400


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"n_persons": 0}, "n_persons is 0: give a whole number"),
        ({"preference": 1.5}, "preference is 1.5: give a probability, from 0 to 1"),
        ({"tie": -0.1}, "tie is -0.1: give a probability"),
        ({"tie": float("nan")}, "tie is nan: give a probability"),
        ({"tie": "often"}, "tie is 'often': give a probability"),
        ({"n_persons": 2.5}, "n_persons is 2.5: give a whole number"),
    ],
)
def test_what_cannot_be_simulated_is_said(key, tmp_path, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        survey.simulate(
            key, **({"n_persons": 2, "preference": 0.7, "tie": 0.1} | changes), out=tmp_path / "a"
        )
    assert not (tmp_path / "a").exists()
    with pytest.raises(InputError, match="n_persons is 3: give a whole number of at least 4"):
        survey.check_simulated(3, 0.7, 0.1, fewest=4)


# The questions


class Run:
    """As much of a study as questions are drawn from: 4 pairs of 3 images, 6 captioned images."""

    def __init__(self, seed):
        self.seed = seed

    def pairs(self):
        return [(name, "vgg16") for name in "abcd"]

    def image_data(self, dataset):
        return type("Data", (), {"classes": [f"{dataset}: right", f"{dataset}: wrong"]})

    def explained_images(self, dataset, arch, part):
        shown = type("Examples", (), {"images": torch.zeros(3, 3, 8, 8)})
        predictions, labels = torch.tensor([1, 1, 1]), torch.tensor([0, 0, 0])
        return type("Explained", (), {"examples": shown, "predictions": predictions, "labels": labels})

    def maps(self, dataset, arch):
        return {"LSFT": torch.zeros(3, 8, 8), "Grad-CAM": torch.ones(3, 8, 8)}

    def captions(self):
        test = type(
            "Test", (), {"__len__": lambda self: 6, "batch": lambda self, i: torch.full((3, 8, 8), i / 6)}
        )
        return type("Captions", (), {"test": test(), "source": "embedded"})


def test_the_remainder_falls_on_pairs_drawn_by_the_seed():
    first = [survey.questions(Run(seed), ("LSFT", "Grad-CAM"), 1)[0].caption for seed in range(24)]
    assert {caption[0] for caption in first} == set("abcd"), "not always the first pair"
    assert set(first) == {f"{name}: wrong" for name in "abcd"}, "what the CNN says, not what is right"
    for seed in range(4):
        asked = survey.questions(Run(seed), ("LSFT", "Grad-CAM"), 6)
        assert sorted([q.caption[0] for q in asked].count(name) for name in "abcd") == [1, 1, 2, 2]


def test_captioned_images_are_drawn_by_the_seed(monkeypatch):
    monkeypatch.setattr(
        survey.captioning,
        "caption_maps",
        lambda study, i: (("a", "ring"), {m: torch.zeros(2, 8, 8) for m in "xy"}),
    )
    monkeypatch.setattr(survey, "roles", lambda caption, source: ("other", "subject"))

    def drawn(seed):
        return [
            round(6 * q.image[0, 0, 0].item()) for q in survey.questions(Run(seed), "xy", 3, "captioning")
        ]

    draws = [drawn(seed) for seed in range(8)]
    assert all(len(set(images)) == 3 for images in draws)
    assert len(set(map(tuple, draws))) > 5 and drawn(3) == draws[3]
    assert sum(images == [0, 1, 2] for images in draws) < 2, "not in the order of the files"


# The command


def sftgan(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(argument) for argument in arguments])
    return stop.value.code


@pytest.fixture
def commanded(tmp_path):
    """A folder with key.json, and answers/ of two persons to five questions, with a foreign file."""
    survey.build(questions(5, ("LSFT", "GSFT")), tmp_path, "t")
    key = survey.read_key(tmp_path / "key.json")
    write(tmp_path / "answers", "1.json", answer(key, ["LSFT", "LSFT", "GSFT", "tie", "LSFT"], "p1"))
    write(tmp_path / "answers", "2.json", answer(key, ["LSFT", "tie", "GSFT", "GSFT", "LSFT"], "p_2"))
    write(tmp_path / "answers", "notes.txt", "")
    return tmp_path


def test_the_command_builds_a_survey(tmp_path, monkeypatch, capsys):
    asked = []

    def drawn(study, methods, n, task):
        asked.append((study.seed, study.profile.eta, methods, n, task))
        return questions(n, methods)

    monkeypatch.setattr(survey, "questions", drawn)
    out = tmp_path / "mine"
    options = ("--questions", 5, "--second", "GSFT", "--task", "captioning", "-p", "eta", 4, "-p", "seed", 3)
    assert sftgan("survey", "build", out, *options) == 0
    assert asked == [(3, 4, ("LSFT", "GSFT"), 5, "captioning")]
    assert f"{out / 'survey.html'}: send it out" in capsys.readouterr().out
    assert sftgan("survey", "build", out, *options) == 2
    assert len(asked) == 1, "nothing is trained for a survey that cannot be written"
    assert "is the key of a survey already built" in capsys.readouterr().err


def test_the_command_analyses_answers(commanded, capsys):
    votes, picture = commanded / "votes.csv", commanded / "picture"
    where = ("--key", commanded / "key.json", "--votes", votes, "--figure", picture)
    assert sftgan("survey", "analyse", commanded / "answers", *where) == 0
    said = capsys.readouterr().out
    assert said.startswith("notes.txt: foreign: not an answers-*.json file (not counted)\npersons: 2\n")
    assert "questions won: LSFT 3, tie 0, GSFT 2" in said and "SIMULATED" not in said
    assert len(pd.read_csv(votes)) == 10
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG" and drawn.width > 800

    write(commanded / "bad", "notes.txt", "")
    assert sftgan("survey", "analyse", commanded / "bad", *where) == 2
    said, sentence = capsys.readouterr()
    assert "notes.txt: foreign" in said and "none of the files holds an answer" in sentence


@pytest.mark.parametrize("option", ["--votes", "--figure"])
def test_a_result_that_cannot_be_written_is_said_behind_the_report(commanded, capsys, option):
    where = ("--key", commanded / "key.json", option, commanded / "nowhere" / "file")
    assert sftgan("survey", "analyse", commanded / "answers", *where) == 2
    said, sentence = capsys.readouterr()
    assert "questions won: LSFT 3" in said
    assert sentence.startswith("sftgan: the results cannot be written") and sentence.count("\n") == 1


def test_the_command_answers_bad_input_in_one_sentence(tmp_path, capsys):
    assert sftgan("survey", "analyse", tmp_path, "--key", tmp_path / "key.json") == 2
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "key.json").write_text('{"survey": "a", "methods": [], "questions": []}')
    assert sftgan("survey", "analyse", tmp_path, "--key", tmp_path / "key.json") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sftgan("survey", "build", tmp_path / "x", "-p", "eta", 99) == 2
    assert "choose at most 13" in capsys.readouterr().err
