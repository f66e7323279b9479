"""Commands of the companion: run, record, claims, publish, survey."""

import ast
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from sftgan.errors import InputError, require

Notebooks = Annotated[
    list[str] | None, typer.Argument(help="Notebook files, or names such as 04_dice. Default: all notebooks.")
]
ProfileName = Annotated[str, typer.Option(help="Profile: smoke, cpu or paper.")]
_NEEDED = ("filelock", "joblib", "pandas", "pydantic", "seaborn", "statsmodels", "yaml")
app = typer.Typer()
survey_app = typer.Typer(
    no_args_is_help=True, help="Survey people on which of two maps is better (section 6)."
)
Parameters = Annotated[
    list[str] | None,
    typer.Option("-p", metavar="NAME VALUE", help="Set a notebook parameter or a profile field. Repeatable."),
]


@app.command()
def run(
    notebooks: Notebooks = None,
    profile: ProfileName = "smoke",
    out: Annotated[Path, typer.Option(help="Folder for the executed notebooks and the status page.")] = Path(
        "_build/source"
    ),
    parameters: Parameters = None,
) -> None:
    """Execute notebooks into OUT/notebooks, and write OUT/book/status.md.

    Notebooks that train no networks run in parallel, one per worker of the profile. A notebook is skipped if its
    executed copy comes from the same notebook, package, profile, parameters and requirements.lock.
    """
    require(_NEEDED, "book")
    from sftgan.companion.recording import runner

    values = parse(parameters)
    jobs = runner.plan(notebooks, profile, values, out)
    results = runner.execute_all(jobs, runner.workers(profile, values))
    status = out / "book" / "status.md"
    if "executed" in results or not status.exists():
        status.parent.mkdir(parents=True, exist_ok=True)
        status.write_text(runner.status_page(out, profile, values))
    raise typer.Exit(code=1 if "failed" in results else 0)


@app.command()
def record(
    notebooks: Notebooks = None, profile: ProfileName = "smoke", parameters: Parameters = None
) -> None:
    """Execute notebooks and keep their results, ready to commit.

    Figures go to figures/PROFILE. Notebooks that ran with their default parameters are replaced with their
    executed copies, without times and other volatile metadata. The others stay as they are.
    """
    require(_NEEDED, "book")
    from sftgan import provenance
    from sftgan.companion.recording import runner

    os.environ["SFTGAN_FIGURES"] = str(provenance.ROOT / "figures" / profile)
    values = parse(parameters)
    jobs = runner.plan(notebooks, profile, values, provenance.ROOT / "_build" / "record" / profile)
    results = runner.execute_all(jobs, runner.workers(profile, values), again=True)
    for job, result in zip(jobs, results, strict=True):  # last: until then the checkout is as committed
        if result == "executed" and not job.changed:
            runner.keep(job.copy, job.notebook)
    if not notebooks:
        runner.keep_times(jobs, provenance.ROOT / "figures" / profile)
    raise typer.Exit(code=1 if "failed" in results else 0)


@app.command()
def claims(
    check: Annotated[
        bool, typer.Option("--check", help="Compare without writing; exit code 1 if a page is out of date.")
    ] = False,
) -> None:
    """Update book/claims.md and README.md from the recorded frames."""
    require(_NEEDED, "book")
    from sftgan import provenance
    from sftgan.companion.recording import ledger

    figures, readme = provenance.ROOT / "figures", provenance.ROOT / "README.md"
    pages = {
        provenance.ROOT / "book" / "claims.md": ledger.page(figures),
        readme: ledger.readme(readme.read_text(), figures),
    }
    if not check:
        for path, text in pages.items():
            path.write_text(text)
        return
    for path, text in pages.items():
        if not path.exists() or path.read_text() != text:
            name = path.relative_to(provenance.ROOT)
            print(
                f"sftgan: {name} does not match the frames in figures: run `sftgan claims`.", file=sys.stderr
            )
            raise typer.Exit(code=1)


@app.command()
def publish(
    profile: ProfileName = "smoke",
    folder: Annotated[
        Path | None, typer.Option(help="Folder for the files. Default: sftgan/pretrained.")
    ] = None,
    parameters: Parameters = None,
) -> None:
    """Train the four generators of the package, and write their weights, model cards and checksums.

    Cached generators are not trained again. Commit first, because the cards name the commit.
    """
    require(_NEEDED, "book")
    from sftgan import provenance
    from sftgan.companion.recording import cards
    from sftgan.companion.study.study import Study

    for file in cards.publish(
        Study(profile, **parse(parameters)), folder or provenance.ROOT / "sftgan" / "pretrained"
    ):
        print(file)


app.add_typer(survey_app, name="survey")


@survey_app.command("build")
def survey_build(
    out: Annotated[Path, typer.Argument(help="Folder for survey.html, to send out, and key.json, to keep.")],
    profile: ProfileName = "smoke",
    questions: Annotated[int, typer.Option(min=1, help="Number of questions.")] = 20,
    task: Annotated[str, typer.Option(help="classification or captioning.")] = "classification",
    first: Annotated[str, typer.Option(help="First method to compare.")] = "LSFT",
    second: Annotated[str, typer.Option(help="Second method to compare.")] = "Grad-CAM",
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Which heat map is better?",
    parameters: Parameters = None,
) -> None:
    """Build a survey on the maps of a run: one web page that works without a server."""
    require(_NEEDED, "book")
    from sftgan.companion.chapters import survey
    from sftgan.companion.study.study import Study

    survey.check_new(out)  # before anything is trained
    study = Study(profile, **parse(parameters))
    asked = survey.questions(study, (first, second), questions, task)
    survey.build(asked, out, title)
    print(f"{out / 'survey.html'}: send it out; {out / 'key.json'}: keep it for `sftgan survey analyse`")


@survey_app.command("analyse")
def survey_analyse(
    folder: Annotated[Path, typer.Argument(help="Folder with the answers-*.json files.")],
    key: Annotated[Path, typer.Option(help="The key.json that `sftgan survey build` wrote.")] = Path(
        "key.json"
    ),
    votes: Annotated[Path | None, typer.Option(help="CSV file for the pooled votes.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="PNG file for a figure of the wins and the votes per question.")
    ] = None,
) -> None:
    """Check and pool the answers: faulty files, counts per question, tests and agreement."""
    require(_NEEDED, "book")
    from sftgan.companion.chapters import survey
    from sftgan.companion.chapters import votes as analysis

    pooled = survey.read_answers(folder, survey.read_key(key))
    for line in survey.complaints(pooled):
        print(line)
    found = analysis.analyse(pooled)
    print(*analysis.report(found), sep="\n")
    try:
        if votes:
            pooled.votes.to_csv(votes, index=False)
        if figure:
            analysis.figure(found).savefig(figure, format="png", dpi=150, bbox_inches="tight")
    except OSError as error:
        raise InputError(f"the results cannot be written: {error}.") from None


def parse(parameters: Iterable[str] | None) -> dict[str, Any]:
    """Parse pairs ``NAME=VALUE``.

    Values are read as papermill's ``-p`` reads them; lists are possible too.

    Parameters
    ----------
    parameters
        Pairs to parse; None for none.

    Returns
    -------
    dict[str, Any]
        Values by name; text that is no Python literal stays a string.

    Raises
    ------
    InputError
        If a pair lacks its value, or names the profile.

    Examples
    --------
    >>> parse(["eta=4", "densities=[0.0, 0.5]", "bias=true", "task=captioning"])
    {'eta': 4, 'densities': [0.0, 0.5], 'bias': True, 'task': 'captioning'}
    """
    values = {}
    for pair in parameters or ():
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"-p needs a name and a value, as in '-p eta 4', but got only {pair!r}.")
        if name == "profile":
            raise InputError(f"the profile has an option of its own: write --profile {text}.")
        words = {"true": True, "false": False, "none": None, "null": None}
        try:
            values[name] = words[text.lower()] if text.lower() in words else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values
