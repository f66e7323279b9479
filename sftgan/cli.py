"""The command `sftgan`: execute the notebooks, record what they show, ask people."""

import ast
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from sftgan import runner
from sftgan.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Notebooks = Annotated[
    list[str] | None, typer.Argument(help="files, or names such as 04_dice; all of them when left out")
]
ProfileName = Annotated[str, typer.Option(help="smoke, cpu or paper")]
survey_app = typer.Typer(
    no_args_is_help=True, help="Ask people which of two maps they find better (section 6)."
)
app.add_typer(survey_app, name="survey")
Parameters = Annotated[
    list[str] | None,
    typer.Option("-p", metavar="NAME VALUE", help="a notebook's parameter or a field of the profile"),
]


@app.callback()
def about() -> None:
    """The SFT-GAN companion: notebooks in, executed notebooks, pages and figures out."""


@app.command()
def run(
    notebooks: Notebooks = None,
    profile: ProfileName = "smoke",
    out: Annotated[Path, typer.Option(help="folder for the executed notebooks and the status page")] = Path(
        "_build/source"
    ),
    parameters: Parameters = None,
) -> None:
    """Execute notebooks into OUT/notebooks, and write OUT/book/status.md.

    Those that fit no nets run side by side, as many as the profile has workers. A notebook whose executed
    copy was made from the same notebook, package, profile, parameters and requirements.lock is not executed again.
    """
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
    """Execute notebooks and keep what they show, to be committed.

    Figures go to figures/PROFILE. Notebooks executed with their own default parameters are replaced by
    their executed copies, without times and other volatile metadata; the others stay as they are.
    """
    os.environ["SFTGAN_FIGURES"] = str(runner.ROOT / "figures" / profile)
    values = parse(parameters)
    jobs = runner.plan(notebooks, profile, values, runner.ROOT / "_build" / "record" / profile)
    results = runner.execute_all(jobs, runner.workers(profile, values), again=True)
    for job, result in zip(jobs, results, strict=True):  # at the end: until then the checkout is as committed
        if result == "executed" and not job.changed:
            runner.keep(job.copy, job.notebook)
    raise typer.Exit(code=1 if "failed" in results else 0)


@app.command()
def claims(
    check: Annotated[bool, typer.Option("--check", help="write nothing, compare")] = False,
) -> None:
    """Write book/claims.md, the paper's claims judged by the recorded frames, or --check that it is theirs."""
    from sftgan import ledger

    path = runner.ROOT / "book" / "claims.md"
    text = ledger.page(runner.ROOT / "figures")
    if not check:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    elif not path.exists() or path.read_text() != text:
        print(
            "sftgan: book/claims.md is not what the frames in figures say: run `sftgan claims`.",
            file=sys.stderr,
        )
        raise typer.Exit(code=1)


@survey_app.command("build")
def survey_build(
    out: Annotated[
        Path, typer.Argument(help="folder for survey.html, to send around, and key.json, to keep")
    ],
    profile: ProfileName = "smoke",
    questions: Annotated[int, typer.Option(min=1, help="how many")] = 20,
    task: Annotated[str, typer.Option(help="classification or captioning")] = "classification",
    first: Annotated[str, typer.Option(help="a method")] = "LSFT",
    second: Annotated[str, typer.Option(help="the method it is compared with")] = "Grad-CAM",
    title: Annotated[str, typer.Option(help="heading of the page")] = "Which heat map is better?",
    parameters: Parameters = None,
) -> None:
    """Write a survey of a run's maps as one page that works without a server."""
    from sftgan import experiments, survey
    from sftgan.study import Study

    survey.check_new(out)  # before anything is trained
    study = Study(profile, **parse(parameters))
    asked = experiments.questions(study, (first, second), questions, task)
    survey.build(asked, out, title)
    print(f"{out / 'survey.html'}: send it around; {out / 'key.json'}: keep it for `sftgan survey analyse`")


@survey_app.command("analyse")
def survey_analyse(
    folder: Annotated[Path, typer.Argument(help="folder with the answers-*.json files")],
    key: Annotated[Path, typer.Option(help="what `sftgan survey build` wrote beside the page")] = Path(
        "key.json"
    ),
    votes: Annotated[Path | None, typer.Option(help="CSV file for the pooled votes")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="PNG file for the questions won and the votes on each")
    ] = None,
) -> None:
    """Check and pool answers: what is wrong with which file, counts by question, tests, agreement."""
    from sftgan import survey
    from sftgan import votes as analysis

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


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Input that cannot be used ends in one sentence on stderr and exit code 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("SFTGAN_COMMAND", shlex.join(["sftgan", *arguments]))
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # silences a warning of each kernel
    try:
        app(args=_join_pairs(arguments))
    except InputError as error:
        print(f"sftgan: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _join_pairs(arguments: list[str]) -> list[str]:
    """Turn `-p NAME VALUE`, as papermill has it, into the `-p NAME=VALUE` that typer can take."""
    joined, rest = [], list(arguments)
    while rest:
        word = rest.pop(0)
        joined.append(word)
        if word == "-p" and len(rest) >= 2 and "=" not in rest[0]:
            joined.append(f"{rest.pop(0)}={rest.pop(0)}")
    return joined


def parse(parameters: Iterable[str] | None) -> dict[str, Any]:
    """Read `NAME=VALUE` pairs. Values as papermill's -p has them; a list is written `[1, 2]`."""
    values = {}
    for pair in parameters or ():
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"-p wants a name and a value, as in '-p eta 4', but got only {pair!r}.")
        if name == "profile":
            raise InputError(f"the profile is not a parameter here: write --profile {text}.")
        words = {"true": True, "false": False, "none": None, "null": None}
        try:
            values[name] = words[text.lower()] if text.lower() in words else ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values
