"""The survey in a browser: answered to the end by keyboard, and its file analysed."""

import html
import json
import re

import pytest
import torch

from sftgan.companion.chapters import survey, votes
from sftgan.companion.chapters.survey import Question

from .conftest import ROOT

N = 4
CHAPTER = ROOT / "_build" / "html" / "notebooks" / "10_surveys.html"


@pytest.fixture
def built(tmp_path):
    rng = torch.Generator().manual_seed(0)
    asked = [
        Question(
            torch.rand(3, 16, 16, generator=rng), f"class {i}",
            {method: torch.rand(16, 16, generator=rng) for method in ("LSFT", "Grad-CAM")},
        )
        for i in range(N)
    ]  # fmt: skip
    survey.build(asked, tmp_path, "Which heat map is better?")
    return tmp_path


@pytest.fixture
def begun(built, page):
    page.goto((built / "survey.html").as_uri())
    page.keyboard.press("Enter")  # the button "Begin" has the focus
    return page


def heading(page):
    return page.locator("main p").first.inner_text()


def saved(page, folder):
    with page.expect_download() as download:
        page.keyboard.press("Enter")  # the button "Save my answers" has the focus
    folder.mkdir(exist_ok=True)
    assert download.value.suggested_filename.startswith("answers-")
    download.value.save_as(folder / download.value.suggested_filename)
    return json.loads((folder / download.value.suggested_filename).read_text())


@pytest.mark.parametrize("keys", [("1", "2", "0", "1"), ("ArrowLeft", "ArrowRight", "=", "ArrowLeft")])
def test_by_keyboard_from_the_first_to_the_last_question(built, begun, keys):
    for k, press in enumerate(keys):
        assert heading(begun) == f"Question {k + 1} of {N}"
        begun.keyboard.press(press)
    assert begun.locator("#answers").input_value().startswith("{")
    given = saved(begun, built / "answers")
    chosen = [a["choice"] for a in given["answers"]]
    assert chosen == [
        given["answers"][0]["left"],
        given["answers"][1]["right"],
        "tie",
        given["answers"][3]["left"],
    ]
    assert given["complete"] and json.loads(begun.locator("#answers").input_value()) == given

    key = survey.read_key(built / "key.json")
    pooled = survey.read_answers(built / "answers", key)
    assert pooled.problems.empty and not pooled.simulated
    choices = pooled.votes.set_index("question")["choice"]
    for a in given["answers"]:
        maps = key.questions[a["question"]].maps
        assert choices[a["question"]] == ("tie" if a["choice"] == "tie" else maps[a["choice"]])
    found = votes.analyse(pooled)
    assert found.questions[["LSFT", "tie", "Grad-CAM"]].to_numpy().sum() == N
    assert found.left.share == pytest.approx(2 / 3)


def test_scrolling_a_held_key_and_a_double_click_answer_no_question_unseen(begun):
    begun.keyboard.press("ArrowDown")
    assert heading(begun) == f"Question 1 of {N}"
    begun.keyboard.down("1")
    begun.keyboard.down("1")  # as a held key repeats
    begun.keyboard.up("1")
    assert heading(begun) == f"Question 2 of {N}"
    begun.locator("#right").dblclick()
    assert heading(begun) == f"Question 3 of {N}"


class Dialogs:
    """Answers every question that the page asks, and remembers its kind and text."""

    def __init__(self, page, accept=True):
        self.asked, self.accept = [], accept
        page.on("dialog", self.answer)

    def answer(self, dialog):
        self.asked.append((dialog.type, dialog.message))
        dialog.accept() if self.accept else dialog.dismiss()

    def kinds(self):
        return [kind for kind, _ in self.asked]


def focused(page):
    return page.evaluate("document.activeElement.textContent")


def test_a_reload_keeps_the_answers_and_the_person(built, begun):
    begun.keyboard.press("1")
    begun.keyboard.press("0")
    person = begun.evaluate("person")
    dialogs = Dialogs(begun)
    begun.reload()
    assert dialogs.kinds() == ["beforeunload"]
    assert focused(begun) == f"Go on (2 of {N} answered)"
    begun.keyboard.press("Enter")
    assert heading(begun) == f"Question 3 of {N}"
    begun.keyboard.press("2")
    begun.keyboard.press("2")
    given = saved(begun, built / "answers")
    assert given["complete"] and given["person"] == person
    assert [a["choice"] == "tie" for a in given["answers"]] == [False, True, False, False]


def test_after_a_complete_set_is_saved_the_next_visitor_is_another_person(built, begun):
    for _ in range(N):
        begun.keyboard.press("0")
    given = saved(begun, built / "answers")
    dialogs = Dialogs(begun)
    begun.reload()
    assert dialogs.asked == [], "nothing is lost any more"
    assert [b.inner_text() for b in begun.get_by_role("button").all()] == ["Begin"]
    begun.keyboard.press("Enter")
    for _ in range(N):
        begun.keyboard.press("0")
    assert saved(begun, built / "answers")["person"] != given["person"]


def test_part_of_the_answers_is_kept_though_it_was_saved(built, begun):
    begun.keyboard.press("1")
    begun.get_by_role("button", name="Save what I have").click()
    saved(begun, built / "answers")
    begun.reload()
    assert focused(begun) == f"Go on (1 of {N} answered)"


def test_beginning_anew_asks_before_it_loses_answers(begun):
    begun.keyboard.press("1")
    person = begun.evaluate("person")
    dialogs = Dialogs(begun)
    begun.reload()
    dialogs.accept = False
    begun.get_by_role("button", name="Begin anew").click()
    assert dialogs.kinds() == ["beforeunload", "confirm"]
    assert f"The answers kept here (1 of {N}) will be lost" in dialogs.asked[1][1]
    assert begun.get_by_role("button", name=f"Go on (1 of {N} answered)").is_visible()
    dialogs.accept = True
    begun.get_by_role("button", name="Begin anew").click()
    assert heading(begun) == f"Question 1 of {N}" and begun.evaluate("person") != person
    begun.reload()
    assert focused(begun) == "Begin", "the answers before are gone"


def test_answers_taken_up_are_not_lost_without_a_question(begun):
    begun.keyboard.press("1")
    dialogs = Dialogs(begun)
    begun.reload()
    begun.keyboard.press("Enter")  # go on, and answer nothing more
    begun.reload()
    assert dialogs.kinds() == ["beforeunload", "beforeunload"]


def test_where_all_is_answered_but_not_saved_enter_leads_to_saving(built, begun):
    for _ in range(N):
        begun.keyboard.press("2")
    person = begun.evaluate("person")
    Dialogs(begun)
    begun.reload()
    assert focused(begun) == f"Save the answers kept here ({N} of {N})"
    begun.keyboard.press("Enter")
    assert focused(begun) == "Save my answers"
    given = saved(begun, built / "answers")
    assert given["complete"] and given["person"] == person


def test_one_can_go_back_and_change_an_answer(built, begun):
    begun.keyboard.press("1")
    begun.keyboard.press("2")
    begun.keyboard.press("Backspace")
    assert heading(begun) == f"Question 2 of {N}"
    assert begun.locator("#right").get_attribute("aria-pressed") == "true", "the answer given is shown"
    begun.get_by_role("button", name="Next").click()
    assert heading(begun) == f"Question 3 of {N}"
    begun.keyboard.press("Backspace")
    begun.keyboard.press("0")
    begun.keyboard.press("1")
    begun.keyboard.press("1")
    given = saved(begun, built / "answers")
    assert len(given["answers"]) == N and given["answers"][1]["choice"] == "tie"


def test_buttons_work_with_tab_and_enter(begun):
    begun.locator("#right").focus()
    begun.keyboard.press("Enter")
    assert heading(begun) == f"Question 2 of {N}"
    begun.get_by_role("button", name="equally good").click()
    assert heading(begun) == f"Question 3 of {N}"


def test_partial_answers_can_be_saved_and_are_told_apart(built, begun):
    begun.keyboard.press("1")
    begun.get_by_role("button", name="Save what I have").click()
    given = saved(begun, built / "answers")
    assert not given["complete"] and len(given["answers"]) == 1
    pooled = survey.read_answers(built / "answers", survey.read_key(built / "key.json"))
    assert pooled.problems["what"].tolist() == [f"partial: {N - 1} of {N} questions are open"]


def test_the_order_differs_from_person_to_person_and_no_method_is_named(built, page):
    orders = set()
    for _ in range(6):
        page.goto((built / "survey.html").as_uri())
        page.evaluate("localStorage.clear()")
        page.reload()
        page.keyboard.press("Enter")
        for _ in range(N):
            page.keyboard.press("0")
        given = json.loads(page.locator("#answers").input_value())
        orders.add(tuple((a["question"], a["left"]) for a in given["answers"]))
    assert len(orders) > 3
    source = re.sub(r"data:image/png;base64,[\w+/=]+", "", page.content()).lower()
    assert "lsft" not in source and "cam" not in source.replace("came", "")


def test_a_phone_shows_all_of_it(begun):
    begun.set_viewport_size({"width": 360, "height": 740})
    assert begun.evaluate("document.scrollingElement.scrollWidth") <= 360
    pictures = begun.eval_on_selector_all(
        "img", "nodes => nodes.map(n => [n.naturalWidth > 0, n.alt.length > 5])"
    )
    assert pictures == [[True, True]] * 3


def answered_in_a_frame(page, keys):
    """The answers in a survey that is shown inside the page, given by keyboard to the end."""
    page.locator("iframe").scroll_into_view_if_needed()
    frame = page.frame_locator("iframe")
    frame.locator(".begin").press("Enter")
    for k, press in enumerate(keys, 1):
        line = frame.locator("main p").first
        assert line.inner_text() == f"Question {k} of {len(keys)}"
        page.keyboard.press(press)
    return json.loads(frame.locator("#answers").input_value())


def test_inside_another_page_it_neither_takes_the_focus_nor_asks_when_one_leaves(built, page):
    source = html.escape((built / "survey.html").read_text(encoding="utf-8"))
    (built / "around.html").write_text(f'<input id="own" autofocus><iframe srcdoc="{source}"></iframe>')
    page.goto((built / "around.html").as_uri())
    page.frame_locator("iframe").locator(".begin").wait_for()
    assert page.evaluate("document.activeElement.id") == "own"
    given = answered_in_a_frame(page, "1021")
    assert given["complete"] and [a["choice"] == "tie" for a in given["answers"]] == [
        False,
        True,
        False,
        False,
    ]
    dialogs = Dialogs(page)
    page.goto("about:blank")
    assert dialogs.asked == []


@pytest.mark.skipif(not CHAPTER.exists(), reason="needs the pages: make book")
def test_the_survey_in_the_book_can_be_answered_by_keyboard(page):
    page.goto(CHAPTER.as_uri())
    given = answered_in_a_frame(page, "120")
    assert given["complete"] and given["answers"][0]["choice"] == given["answers"][0]["left"]
    assert given["answers"][1]["choice"] == given["answers"][1]["right"]
    assert given["answers"][2]["choice"] == "tie"
