"""The ledger has no result of its own: text and numbers of book/claims.md are those of the recorded frames."""

import re
import shutil

import pandas as pd
import pytest
import yaml

from sftgan import InputError, cli, provenance
from sftgan.companion.recording import ledger, runner
from sftgan.companion.report.claims import UNTESTED
from sftgan.companion.report.statistics import verdict, verdict_between

ROOT = provenance.ROOT
FIGURES = ROOT / "figures"
CLAIMS = ledger.load().claims
PAPER = {
    *(
        "1",
        "2",
        "2.1",
        "2.2",
        "2.3",
        "2.4",
        "3",
        "3.1",
        "3.1.1",
        "3.2",
        "3.2.1",
        "3.2.2",
        "3.2.3",
        "4",
        "4.1",
        "4.1.1",
    ),
    *("4.2", "4.2.1", "4.2.2", "4.2.3", "4.3", *(f"4.3.{n}" for n in range(1, 8)), "4.4"),
    *("5", "5.1", "5.2", "5.3", "6", "6.1", "6.2", "7", "8"),
}
"""The paper's numbering."""


@pytest.fixture
def copied(tmp_path):
    """The recorded frames, in a folder where they may be changed."""
    return shutil.copytree(FIGURES, tmp_path / "figures", ignore=shutil.ignore_patterns("*.png", "*.pdf"))


@pytest.fixture(scope="module")
def smoke():
    return ledger.judged(FIGURES, "smoke").set_index("id")


def frame(claim: ledger.Claim, profile: str = "smoke") -> pd.DataFrame:
    return pd.read_csv(FIGURES / profile / f"{claim.item}.csv")


def sftgan(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    return stop.value.code


def changed(tmp_path, **values):
    """A ledger whose first claim has other values."""
    content = yaml.safe_load(ledger.FILE.read_text())
    content["claims"][0] |= values
    (tmp_path / "ledger.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "ledger.yaml"


def test_the_ledger_has_the_claims_and_no_verdict():
    text = ledger.FILE.read_text()
    assert len(CLAIMS) >= 25 and len({(claim.section, claim.claim) for claim in CLAIMS}) >= 25
    assert not re.search(r"\b(holds|does not hold|depends)\b", text)
    assert UNTESTED not in text and set(ledger.load().sections) <= PAPER
    assert "Criteria written on 2026-11-25, before the first recorded run on real images" in text


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_is_one_recorded_row_and_has_its_verdict(claim, smoke):
    row = ledger.selected(claim, frame(claim))
    low, high = row.get("low", float("nan")), row.get("high", float("nan"))
    assert pd.isna(low) or low <= row[claim.value] <= high
    assert (ROOT / "notebooks" / f"{claim.notebook}.ipynb").exists() and claim.item[:2] == claim.notebook[:2]
    expected = UNTESTED if pd.isna(low) else row.get("verdict", smoke.loc[claim.id, "verdict"])
    assert claim.tolerance or smoke.loc[claim.id, "verdict"] == expected


def test_where_a_verdict_is_not_the_chapters_the_page_says_why(copied):
    found = ledger.judged(copied, "smoke").set_index("id")
    differ = found[found["chapter's verdict"].ne("") & found["chapter's verdict"].ne(found["verdict"])].index
    for claim in (claim for claim in CLAIMS if claim.id in differ):
        assert claim.tolerance or "low" not in frame(claim), f"{claim.id} is judged in two ways"
    section = re.search(
        r"## Where this page and a chapter differ\n(.*?)\n## ", ledger.page(copied), re.DOTALL
    )[1]
    assert section.count("| `smoke` |") == len(differ)


def test_every_recorded_claim_is_on_the_page():
    of_the_paper = {claim.item for claim in CLAIMS}
    more_pairs = {"06_qualitative_unseen_claims"}
    for path in sorted((FIGURES / "smoke").glob("*_claims.csv")):
        assert path.stem in of_the_paper | more_pairs or len(ledger.beyond(path)), path.name


@pytest.mark.parametrize("path", sorted((FIGURES / "smoke").glob("*_claims.csv")), ids=lambda path: path.stem)
def test_claims_beyond_the_paper_have_the_verdict_of_their_interval(path):
    rows, recorded = ledger.beyond(path), pd.read_csv(path)
    said = recorded[[c for c in ("where", "who says so") if c in recorded]].eq("beyond the paper").any(axis=1)
    assert len(rows) == said.sum()
    for row in recorded[said].itertuples():
        share = "first half" in recorded
        word = verdict_between(row.low, row.high, 0.4, 0.6) if share else verdict(row.low, row.high)
        assert row.verdict in (word, UNTESTED), row.claim


def test_better_than_the_best_control_is_what_is_recorded(copied, smoke):
    path, item = copied / "smoke" / "04_dice_best_control.csv", "dice-grad-cam"
    table = pd.read_csv(path)
    at = table["method"].eq("LSFT") & table["truth"].eq("object") & table["strategy"].eq("similar")
    was = table.loc[at, "better than every control"].item()
    now = {"yes": "no", "no": "yes"}[was]
    assert smoke.loc[item, "beats the best control"].startswith(f"{was}: ")
    table.loc[at, "better than every control"] = now
    table.to_csv(path, index=False)
    assert (
        ledger.judged(copied, "smoke")
        .set_index("id")
        .loc[item, "beats the best control"]
        .startswith(f"{now}: ")
    )
    path.unlink()
    assert ledger.judged(copied, "smoke").set_index("id").loc[item, "beats the best control"] == "—"


def test_the_page_is_what_the_frames_say():
    assert (ROOT / "book" / "claims.md").read_text() == ledger.page(FIGURES)


def test_a_changed_number_changes_the_page_and_its_verdict(copied):
    claim = next(claim for claim in CLAIMS if claim.criterion == "above_zero")
    path = copied / "smoke" / f"{claim.item}.csv"
    before, table = ledger.page(copied), frame(claim)
    at = ledger.selected(claim, table).name
    for low, high, word in ((0.1, 0.3, "holds"), (-0.1, 0.3, "depends"), (-0.3, -0.1, "does not hold")):
        table.loc[at, [claim.value, "low", "high", "verdict"]] = [
            (low + high) / 2,
            low,
            high,
            "typed by hand",
        ]
        table.to_csv(path, index=False)
        assert ledger.judged(copied, "smoke").set_index("id").loc[claim.id, "verdict"] == word
        assert f"{low:g}, {high:g}]" in ledger.page(copied) != before


def test_counts_are_those_of_the_verdicts(copied):
    shutil.rmtree(copied / "cpu", ignore_errors=True)
    shutil.copytree(copied / "smoke", copied / "cpu")
    (copied / "cpu" / "04_dice_claims.csv").unlink()
    found, page = ledger.judged(copied, "cpu"), ledger.page(copied)
    missing = [claim.id for claim in CLAIMS if claim.item == "04_dice_claims"]
    assert found.loc[found["verdict"] == "not run", "id"].tolist() == missing
    counted = re.search(r"^\| `cpu` \| (.*) \|$", page, re.MULTILINE)[1].split(" | ")
    assert [int(n) for n in counted] == [(found["verdict"] == word).sum() for word in ledger.VERDICTS]
    assert "verdict, `cpu`" in page and "`paper`" not in page, "a profile that has no folder is left out"


def test_counts_by_section_leave_no_claim_out(smoke):
    counted = ledger.by_section(smoke)
    assert counted[list(ledger.VERDICTS)].to_numpy().sum() == len(CLAIMS)
    of = counted.set_index("title").loc["4.2.2 Overlap, Table 2"]
    part = smoke[smoke["section"] == "4.2.2"]["verdict"]
    assert [of[word] for word in ledger.VERDICTS] == [(part == word).sum() for word in ledger.VERDICTS]


def test_criteria_with_their_tolerances():
    accuracy = next(claim for claim in CLAIMS if claim.id == "accuracy-chinese-mnist")
    laxer = accuracy.model_copy(update={"tolerance": -0.005})
    assert accuracy.rule == "above 0.99" and laxer.rule == "above 0.985"
    assert [c.verdict(0.986, 0.999) for c in (accuracy, laxer)] == ["depends", "holds"]
    equal = next(claim for claim in CLAIMS if claim.id == "relevance-vgg19")
    strict = equal.model_copy(update={"tolerance": 0.05})
    assert [c.verdict(0.42, 0.5) for c in (equal, strict)] == ["holds", "depends"]
    assert equal.rule == "from 0.4 to 0.6" and strict.rule == "from 0.45 to 0.55"
    zero = CLAIMS[0].model_copy(update={"criterion": "above_zero", "tolerance": 0.0})
    for interval in ((0.1, 0.2), (-0.1, 0.0), (-0.1, 0.1)):
        assert zero.verdict(*interval) == verdict(*interval)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"section": "4.2.9"}, "unknown section '4.2.9': did you mean '4.2."),
        ({"reason": "orderng"}, "unknown reason 'orderng': did you mean 'ordering'?"),
        ({"id": CLAIMS[1].id}, f"id '{CLAIMS[1].id}' occurs more than once"),
        ({"verdict": "yes"}, "ledger.yaml, claims.0.verdict: Extra inputs are not permitted."),
        ({"tolerance": "small"}, "ledger.yaml, claims.0.tolerance: Input should be a valid number"),
    ],
)
def test_a_wrong_ledger_is_one_sentence(tmp_path, values, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)) as error:
        ledger.load(changed(tmp_path, **values))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"row": {"claim": "no such claim"}}, f"claim {CLAIMS[0].id}: 0 rows of"),
        ({"row": {"claim": "*"}}, f"claim {CLAIMS[0].id}: 13 rows of"),
        ({"row": {"clam": "*"}}, "unknown column of 06_qualitative_claims"),
        ({"value": "diference"}, "did you mean 'difference'?"),
    ],
)
def test_a_selector_that_is_not_one_row_is_one_sentence(tmp_path, values, sentence):
    wrong = ledger.load(changed(tmp_path, item="06_qualitative_claims", **values))
    with pytest.raises(InputError, match=re.escape(sentence)) as error:
        ledger.judged(FIGURES, "smoke", wrong)
    assert "\n" not in str(error.value)


def test_the_readme_is_what_the_recorded_run_says():
    text = (ROOT / "README.md").read_text()
    assert ledger.readme(text, FIGURES) == text


def test_the_readme_has_the_recorded_numbers_and_nothing_else_changed(copied):
    text = "# Title\n\n" + ledger._BEGIN + "\nold\n" + ledger._END + "\n\nThe rest.\n"
    found = ledger.readme(text, copied)
    assert found.startswith("# Title\n\n") and found.endswith("\n\nThe rest.\n") and "\nold\n" not in found
    verdicts = ledger.judged(copied, "cpu")["verdict"].value_counts()
    assert f"{verdicts['holds']} hold, {verdicts['does not hold']} do not hold" in found
    table = pd.read_csv(copied / "cpu" / "04_dice_table2_controls.csv").set_index("method")
    assert table.loc["LSFT", "similar, truth: object"] in found
    assert ledger.readme(found, copied) == found
    with pytest.raises(InputError, match="README.md has no section between"):
        ledger.readme("# Title\n", copied)


def test_the_command_writes_the_pages_and_checks_them(tmp_path, copied, monkeypatch, capsys):
    for module in (provenance, runner):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "book").mkdir()
    (tmp_path / "README.md").write_text(f"{ledger._BEGIN}\n{ledger._END}\n")
    assert sftgan("claims", "--check") == 1
    assert sftgan("claims") == 0
    assert (tmp_path / "book" / "claims.md").read_text() == ledger.page(copied)
    assert "LSFT" in (tmp_path / "README.md").read_text()
    assert sftgan("claims", "--check") == 0
    path = copied / "smoke" / "04_dice_claims.csv"
    path.write_text(path.read_text().replace("MNIST 5000", "something else"))
    capsys.readouterr()
    assert sftgan("claims", "--check") == 1
    said = capsys.readouterr().err
    assert said.startswith("sftgan: book/claims.md does not match") and said.count("\n") == 1
    assert sftgan("claims") == 0
    (tmp_path / "README.md").write_text(f"{ledger._BEGIN}\nLSFT is best.\n{ledger._END}\n")
    assert sftgan("claims", "--check") == 1
    assert capsys.readouterr().err.startswith("sftgan: README.md does not match")


def test_tables_have_as_many_cells_in_each_row():
    widths = []
    for table in re.findall(r"(?:^\|.*\|\n)+", ledger.page(FIGURES), re.MULTILINE):
        counts = {len(re.split(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1, table
        widths.append(counts.pop())
    assert len(widths) > 10
