"""Maps of the words of captions, by Grad-CAM and the SFT-GANs on a captioner (section 4.3.7, Fig. 11)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from sftgan.cams.conditions import ConditionSpec
from sftgan.companion.data.captions import ROLES, Caption, CaptionData, CaptionSplit, roles
from sftgan.companion.fitting import captioner
from sftgan.companion.report.claims import COLUMNS, JUDGED, UNTESTED
from sftgan.companion.report.statistics import differences, with_seed
from sftgan.companion.study.cache import Config, Runtime, Stage
from sftgan.companion.study.gallery import Rows
from sftgan.companion.study.stages import CAPTION_DATA, CAPTIONER, generators
from sftgan.companion.study.study import Study
from sftgan.errors import InputError
from sftgan.gan.examples import Examples
from sftgan.gan.training import generate
from sftgan.metrics import foreground_share

WORD_METHODS = ("LSFT", "GSFT", "Grad-CAM")


def scores(study: Study, n_images: int) -> pd.DataFrame:
    """Measure the map of each word of the captions that the model writes for test images (Fig. 11).

    Parameters
    ----------
    study
        Run whose captioner and GANs are used.
    n_images
        Number of test images; the first ones are used.

    Returns
    -------
    pd.DataFrame
        One row for each image, word (``position``, ``word``) and method of ``WORD_METHODS``. ``role`` is one of
        ``captions.ROLES``, and ``intensity`` is the mean of the word's map (see ``caption_maps``). "on the subject"
        is the map's ``metrics.foreground_share`` on the subject; it is NaN where the subject's place is
        unknown, as in photographs.

    Raises
    ------
    InputError
        If ``n_images`` is not a whole number from 1 to the number of captioned test images.
    """
    data = study.captions()
    there = len(data.test)
    if isinstance(n_images, bool) or not isinstance(n_images, int) or not 1 <= n_images <= there:
        raise InputError(
            f"n_images is {n_images!r}: give a number from 1 to {there}, of the captioned test images."
        )
    drawn = WORDS.all([_config(study, image) for image in range(n_images)], study.runtime)
    places = _subjects(data.test, study.profile.gan_size)
    frames = []
    for image, (caption, maps_of) in enumerate(drawn):
        about = {"image": image, "position": range(len(caption)), "word": caption}
        about |= {"role": roles(caption, data.source)}
        for method in WORD_METHODS:
            of_words = maps_of[method]
            shares: np.ndarray | float = np.nan
            if places is not None:
                shares = foreground_share(of_words, places[image].expand_as(of_words)).numpy()
            measured = {"intensity": of_words.mean((1, 2)).numpy(), "on the subject": shares}
            frames.append(pd.DataFrame(about | measured).assign(method=method))
    name = study.labels()["coco"]
    return pd.concat(frames, ignore_index=True).assign(
        dataset="coco", data=name, arch=study.profile.captions.encoder[1], strategy="dissimilar",
        profile=study.profile.name, seed=study.seed,
    )  # fmt: skip


def by_role(scores: pd.DataFrame) -> pd.DataFrame:
    """Average the measures over the words of each image that play the same role.

    Parameters
    ----------
    scores
        Frame of ``scores``.

    Returns
    -------
    pd.DataFrame
        One row for each method, role and image, with the means of ``intensity`` and "on the subject". Roles
        are in the order of ``captions.ROLES``.
    """
    ordered = scores.sort_values("role", key=lambda role: role.map(ROLES.index), kind="stable")
    keys = ["dataset", "data", "arch", "method", "role", "image"]
    return ordered.groupby(keys, sort=False)[["intensity", "on the subject"]].mean().reset_index()


def caption_maps(study: Study, image: int) -> tuple[Caption, dict[str, Tensor]]:
    """Write the caption of a test image and map each of its words (section 4.3.7).

    The GANs are those of the dissimilar strategy; none was trained on a captioning model.

    Parameters
    ----------
    study
        Run whose captioner and GANs are used.
    image
        Index of the test image.

    Returns
    -------
    tuple[Caption, dict[str, Tensor]]
        The caption of T words, and for each method of ``WORD_METHODS`` the maps (T, H, W) in [0, 1].
    """
    return WORDS(_config(study, image), study.runtime)


def _subjects(split: CaptionSplit, size: int) -> Tensor | None:
    """Return the places of the subjects, bool (n, size, size)."""
    if split.masks is None:
        return None
    places = F.interpolate(split.masks[:, None].float(), (size, size), mode="bilinear", antialias=True)
    return places[:, 0] > 0.5


def _config(study: Study, image: int) -> Config:
    return {
        "title": f"words of captioned image {image}",
        "captioner": study.captioner_config(),
        "image": image,
        "gans": study.gan_configs("dissimilar"),
        "reading": asdict(study.profile.condition_spec()),
        "size": study.profile.gan_size,
    }


def _words(config: Config, runtime: Runtime, checkpoint: Path) -> tuple[Caption, dict[str, Tensor]]:
    fitted, size = config["captioner"], (config["size"], config["size"])
    model = CAPTIONER(fitted, runtime).model.to(runtime.device)
    image = CAPTION_DATA(fitted["data"], runtime).test.batch([config["image"]])
    (caption,) = captioner.describe(model, image)
    conditions, last = captioner.word_cams(
        model, image[0].to(runtime.device), caption, config["size"], ConditionSpec(**config["reading"])
    )
    picture = F.interpolate(image, size, mode="bilinear", antialias=True).expand(len(caption), -1, -1, -1)
    last = last.cpu()
    shown = Examples(picture, conditions.cpu(), last)
    gans = generators(config["gans"], runtime)
    return caption, {"Grad-CAM": last} | {name: generate(gan, shown) for name, gan in gans.items()}


WORDS = Stage(_words)


def bleu(written: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> float:
    """Compute the corpus BLEU of captions with sacrebleu.

    Parameters
    ----------
    written
        One caption per image.
    references
        The reference captions of each image; their number may differ between images.

    Returns
    -------
    float
        BLEU, from 0 to 100.

    Raises
    ------
    InputError
        If sacrebleu is not installed.
    """
    try:
        from sacrebleu import corpus_bleu
    except ImportError as error:
        raise InputError("BLEU needs a package: run `pip install sacrebleu`.") from error
    most = max(len(captions) for captions in references)
    columns: list[list[Any]] = [  # None: no reference; sacrebleu accepts it, but its annotation does not
        [" ".join(captions[k]) if k < len(captions) else None for captions in references] for k in range(most)
    ]
    return corpus_bleu([" ".join(caption) for caption in written], columns, tokenize="none").score


def quality(written: Sequence[Caption], data: CaptionData) -> pd.DataFrame:
    """Rate the captions written for the test images, beside two controls that do not see the image.

    Parameters
    ----------
    written
        One caption per test image.
    data
        The captioned images.

    Returns
    -------
    pd.DataFrame
        One row each for the model and the controls. Columns: "captions" (whose they are), "BLEU" and "right
        subjects, %" (the share of captions whose subject is that of one of the image's captions).
    """
    references = data.test.captions
    (frequent, _), *_ = Counter(captions[0] for captions in data.train.captions).most_common(1)
    compared = {
        "the model": written,
        "control: always the most frequent caption": [frequent] * len(written),
        "control: the captions of other images": [*written[1:], *written[:1]],
    }

    def subjects(caption: Caption) -> set[str]:
        return {w for w, r in zip(caption, roles(caption, data.source), strict=True) if r == "subject"}

    wanted = [set().union(*map(subjects, captions)) for captions in references]
    rows = []
    for name, captions in compared.items():
        right = [bool(subjects(caption) & names) for caption, names in zip(captions, wanted, strict=True)]
        score = bleu(captions, references)
        rows.append({"captions": name, "BLEU": score, "right subjects, %": 100 * np.mean(right)})
    return pd.DataFrame(rows)


def word_claims(words: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims of section 4.3.7.

    A claim is tested on the images whose caption has both roles and for which the measure is defined.

    Parameters
    ----------
    words
        Frame of ``captioning.by_role``.

    Returns
    -------
    pd.DataFrame
        One row for each claim, as in ``judge``, the paper's claims first.
    """
    rows, data = [], ", ".join(words["data"].unique())
    named = words.assign(method=words["method"] + " (" + words["role"] + ")")
    claims = [(said, *claim) for said, listed in _WORD_CLAIMS.items() for claim in listed]
    for said, claim, measure, first, second in claims:
        known = named[named["method"].isin([first, second])].dropna(subset=[measure])
        both = known[known.groupby(with_seed(known, ["image"]))["method"].transform("nunique") == 2]
        row: dict[Any, Any] = {"claim": claim, "who says so": said, "data here": data}
        row["comparison"] = f"{first} − {second}"
        if len(both):
            found = differences(both, measure, first, [second]).iloc[0]
            row |= found[JUDGED].to_dict()
        else:
            row |= {"verdict": UNTESTED}
        rows.append(row)
    columns = ["who says so", *(column for column in COLUMNS if column != "where")]
    return pd.DataFrame(rows, columns=columns).astype({"n": "Int64"})


_WORD_CLAIMS = {  # whose claims: (claim, measure, method and role with the larger value, and with the smaller)
    "the paper (4.3.7)": [
        ("LSFT gives subjects more intensity than verbs", "intensity", "LSFT (subject)", "LSFT (verb)"),
        ("LSFT localises subjects better than Grad-CAM", "on the subject", "LSFT (subject)", "Grad-CAM (subject)"),
    ],
    "beyond the paper": [
        ("GSFT localises subjects better than Grad-CAM", "on the subject", "GSFT (subject)", "Grad-CAM (subject)"),
        *((f"{m} marks the subject more for its own word than for the second noun", "on the subject",
           f"{m} (subject)", f"{m} (second noun)") for m in WORD_METHODS),
        *((f"{m} gives subjects more intensity than verbs", "intensity", f"{m} (subject)", f"{m} (verb)")
          for m in ("GSFT", "Grad-CAM")),
        *((f"{m} gives second nouns more intensity than verbs", "intensity", f"{m} (second noun)", f"{m} (verb)")
          for m in WORD_METHODS),
    ],
}  # fmt: skip


def word_maps(
    study: Study, images: Sequence[int], methods: Sequence[str] = ("Grad-CAM", "LSFT")
) -> tuple[Rows, list[str], list[list[str]]]:
    """Show captioned test images with one map for each word of the written caption.

    Parameters
    ----------
    study
        Run whose images are shown.
    images
        Numbers of the test images.
    methods
        Methods whose maps are shown.

    Returns
    -------
    tuple[Rows, list[str], list[list[str]]]
        One row for each image and method; the texts are the words. White pictures fill the rows of short
        captions.
    """
    rows, titles, texts = [], [], []
    for i in images:
        caption, maps = caption_maps(study, i)
        for method in methods:
            rows.append([study.captions().test.batch(i), *maps[method]])
            titles.append(f"{i + 1}, {method}")
            texts.append(["", *caption])
    width = max(map(len, rows))
    for row, line in zip(rows, texts, strict=True):
        missing = width - len(row)
        row += [torch.ones_like(row[0])] * missing
        line += [""] * missing
    return rows, titles, texts
