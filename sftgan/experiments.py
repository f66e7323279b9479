"""The paper's measurements as tidy frames, with one row for each pair, method and image."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from skimage.metrics import structural_similarity
from torch import Tensor

from sftgan import metrics, words
from sftgan.architectures import last_block
from sftgan.baselines import CONTROLS, luminance
from sftgan.bootstrap import proportion_ci
from sftgan.cache import Config, Runtime, Stage
from sftgan.captions import roles
from sftgan.cgma import cgma, positions
from sftgan.classifiers import predict
from sftgan.errors import InputError, check_name
from sftgan.explained import Explained, examples
from sftgan.gradcam import layer_cams
from sftgan.networks import count_parameters
from sftgan.noise import check_densities, salt_and_pepper
from sftgan.reading import Reading
from sftgan.stages import CLASSIFIER, EXPLAINED, GAN, IMAGE_DATA, generators
from sftgan.study import STRATEGIES, Study
from sftgan.survey import Question
from sftgan.training import Examples, generate

METHODS = ("LSFT", "GSFT", "Grad-CAM", *CONTROLS)
TRUTHS = ("object", "Grad-CAM")
TELLING = {"shortcut": "ppmi", "honest": "ppmi_control"}
"""The two CNNs of section 4.3.6 and the scenes that each is trained on.

The patch in the scenes of the first tells the class; in those of the second it is random.
"""
Case = tuple[str, str, str]
"""A data set, a CNN, and the strategy whose GANs explain it."""


def selected(study: Study) -> list[Case]:
    """List the selected pairs, each with its own strategy.

    Parameters
    ----------
    study
        Run with a selection of data sets and CNNs.

    Returns
    -------
    list[Case]
        One case for each pair.
    """
    return [(dataset, arch, study.strategy(dataset)) for dataset, arch in study.pairs()]


def accuracies(study: Study, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Measure the size and the test accuracy of CNNs.

    Parameters
    ----------
    study
        Run whose CNNs are measured.
    pairs
        Data set and CNN of each pair.

    Returns
    -------
    pd.DataFrame
        One row for each CNN. ``N`` is its number of convolutions; ``low`` and ``high`` are the 95 % Wilson
        interval of its ``accuracy``.
    """
    rows = []
    for (dataset, arch), fitted in study.classifiers(pairs).items():
        image = study.image_data(dataset, arch).test.batch(slice(0, 1))
        n = int(fitted.confusion.sum())
        low, high = proportion_ci(fitted.test_accuracy, n)
        rows.append({
            "data": study.labels()[dataset],
            "dataset": dataset,
            "arch": arch,
            "parameters": count_parameters(fitted.model),
            "N": len(layer_cams(fitted.model, image).names),
            "classes": len(fitted.confusion),
            "test images": n,
            "accuracy": fitted.test_accuracy,
            "low": low,
            "high": high,
        })  # fmt: skip
    return pd.DataFrame(rows)


def correlations_with_last(study: Study, dataset: str) -> pd.DataFrame:
    """Measure how much of the last layer's Grad-CAM is contained in earlier maps (section 3.1).

    Parameters
    ----------
    study
        Run whose CNNs are measured.
    dataset
        Data set; all CNNs of the strategies on it are measured.

    Returns
    -------
    pd.DataFrame
        One row for each CNN, position ``K``, image and ``kind`` ("single layer" or "average"). ``r`` is the
        Pearson correlation over pixels.
    """
    p, frames = study.profile, []
    for (_, arch), fitted in study.classifiers(study.all_pairs([dataset])).items():
        images = study.chosen(dataset, arch, "test").batch()
        maps = layer_cams(fitted.model, images, tap=p.tap, size=p.gan_size).maps
        ends = positions(maps.shape[1], p.eta, p.rounding)
        kinds = {"single layer": maps[:, [e - 1 for e in ends]], "average": cgma(maps, p.eta, p.rounding)}
        for kind, part in kinds.items():
            r = metrics.correlation(part, maps[:, -1:])
            frame = pd.DataFrame(r.numpy(), columns=range(p.eta)).melt(var_name="K", value_name="r")
            frames.append(frame.assign(arch=arch, kind=kind, layer=frame["K"].map(dict(enumerate(ends)))))
    return pd.concat(frames, ignore_index=True)


def over_seeds(study: Study, measure: Callable[[Study], pd.DataFrame]) -> pd.DataFrame:
    """Repeat a measurement over the study's replicates.

    The GANs that the replicates need are trained first, in as many processes as may run.

    Parameters
    ----------
    study
        Run with its replicates.
    measure
        Measurement of one replicate.

    Returns
    -------
    pd.DataFrame
        The frames of all replicates; the column ``seed`` tells them apart.
    """
    replicates = study.replicates()
    for replicate in replicates:
        for strategy in {study.strategy(dataset): None for dataset in study.datasets}:
            replicate.gans(strategy)
    return pd.concat([measure(replicate) for replicate in replicates], ignore_index=True)


def scores(study: Study, cases: Sequence[Case], threshold: float = 127) -> pd.DataFrame:
    """Measure the overlap of maps with ground truths for Tables 1 and 2 (sections 4.2.1 and 4.2.2).

    The ground truths are the object and the binarised Grad-CAM. Where the object is unknown, as on
    photographs, Grad-CAM is the only one.

    Parameters
    ----------
    study
        Run whose maps are measured.
    cases
        Data set, CNN and strategy of each case.
    threshold
        Grey level from 0 to 255 above which a pixel is foreground.

    Returns
    -------
    pd.DataFrame
        One row for each case, method, ``truth`` and image: ``tp``, ``tn``, ``fp``, ``fn`` in pixels, and
        ``dice``.

    Raises
    ------
    InputError
        If ``threshold`` is not a grey level from 0 to 255.
    """
    frames = []
    for case in cases:
        explained = study.explained(*case[:2], "test")
        truths = {"Grad-CAM": metrics.binarise(explained.examples.targets, threshold)}
        if explained.masks is not None:
            truths = {"object": explained.masks} | truths
        for method, maps in study.maps(*case).items():
            foreground = metrics.binarise(maps, threshold)
            for truth, mask in truths.items():
                columns = metrics.confusion(foreground, mask) | {"dice": metrics.dice(foreground, mask)}
                frame = pd.DataFrame({name: values.numpy() for name, values in columns.items()})
                frames.append(_named(study, case, frame, method, explained.labels).assign(truth=truth))
    return pd.concat(frames, ignore_index=True)


def nearest_truth(scores: pd.DataFrame) -> pd.DataFrame:
    """Select one ground truth for each data set: the object where it is known, and Grad-CAM elsewhere.

    Parameters
    ----------
    scores
        Frame of ``scores``.

    Returns
    -------
    pd.DataFrame
        The selected rows.
    """
    known = scores.loc[scores["truth"] == "object", "dataset"].unique()
    return scores[(scores["truth"] == "object") | ~scores["dataset"].isin(known)]


def noise(study: Study, cases: Sequence[Case], densities: Sequence[float], n_images: int) -> pd.DataFrame:
    """Measure maps under salt-and-pepper noise for Figs. 12 and 13 (section 4.4).

    Of the controls, luminance is that of the noisy image; the mean map is the same for every image and
    density.

    Parameters
    ----------
    study
        Run whose maps are measured.
    cases
        Data set, CNN and strategy of each case.
    densities
        Noise densities.
    n_images
        Number of images of each case; the first ones are used.

    Returns
    -------
    pd.DataFrame
        One row for each case, density, method and image: ``background`` (Eq. 9), ``foreground share``,
        ``right`` (whether the CNN is right), ``chance`` (the accuracy of guessing) and ``truth``. The truth
        is the "object", or on photographs the binarised "Grad-CAM" of the clean image. The measures are NaN
        where it is empty.

    Raises
    ------
    InputError
        If a density is not valid, or ``n_images`` is not a whole number of at least 1.
    """
    check_densities(densities)
    check_counts(n_images=n_images)
    own = {"densities": [float(d) for d in densities], "n_images": n_images, "seed": study.seed}
    return pooled(study, NOISE, cases, own)


def relevance(study: Study, cases: Sequence[Case]) -> pd.DataFrame:
    """Measure how far the map moves when one CGMA is replaced (Eq. 10, Figs. 14 and 15, section 5).

    Parameters
    ----------
    study
        Run whose GANs are measured.
    cases
        Data set, CNN and strategy of each case.

    Returns
    -------
    pd.DataFrame
        One row for each case, method ("LSFT", "GSFT"), ``replacement``, CGMA ``c`` (from 0) and image.
        ``relevance`` is a sum over the pixels of the scalar map. ``intensity lost`` is the loss of the map's
        mean, and ``foreground share lost`` that of its foreground share, with the truth of ``noise``.
        Replacements are those of ``metrics.replaced``; "mean" is the mean of the pair's training examples.
    """
    return pooled(study, RELEVANCE, cases, {})


def telling(study: Study, arch: str = "inception_v3") -> dict[str, Explained]:
    """Explain the test scenes with a telling patch for both CNNs of ``TELLING`` (section 4.3.6).

    Parameters
    ----------
    study
        Run whose "ppmi" has the source "embedded".
    arch
        Architecture of the CNNs.

    Returns
    -------
    dict[str, Explained]
        The explained scenes of each CNN.

    Raises
    ------
    InputError
        If the scenes are photographs, whose patch is unknown.
    """
    found = {cnn: study.explained("ppmi", arch, "test", cnn_of) for cnn, cnn_of in TELLING.items()}
    if found["shortcut"].shortcuts is None:
        raise InputError(
            "the place of a shortcut is known in rendered scenes only: give ppmi the source embedded."
        )
    return found


def shortcuts(study: Study, arch: str = "inception_v3") -> pd.DataFrame:
    """Measure how much of each map lies on the telling patch and on the object (Fig. 10, section 4.3.6).

    Besides ``METHODS``, Saliency and SmoothGrad are measured; their maps are fine enough to show a patch.

    Parameters
    ----------
    study
        Run whose "ppmi" has the source "embedded".
    arch
        Architecture of the CNNs.

    Returns
    -------
    pd.DataFrame
        One row for each ``cnn`` of ``TELLING``, ``region`` ("patch" or "object"), method and image of the
        scenes with a telling patch. ``share`` is the share of the map's mass in the region, NaN for an empty
        map; ``area`` is the part of the picture that the region covers; ``beyond`` is ``share`` minus
        ``area``.

    Raises
    ------
    InputError
        If the scenes are photographs, whose patch is unknown.
    """
    frames = []
    for cnn, explained in telling(study, arch).items():
        maps = study.maps("ppmi", arch, "dissimilar", TELLING[cnn])
        every = range(len(explained.labels))
        maps |= study.compared("ppmi", arch, every, ["Saliency", "SmoothGrad"], TELLING[cnn])
        for region, mask in {"patch": explained.shortcuts, "object": explained.masks}.items():
            assert mask is not None  # checked by ``telling``
            area = mask.double().mean((1, 2)).numpy()
            for method, drawn in maps.items():
                share = metrics.mass_share(drawn, mask).numpy()
                frame = pd.DataFrame({"share": share, "area": area, "beyond": share - area})
                frame = _named(study, ("ppmi", arch, "dissimilar"), frame, method, explained.labels)
                frames.append(frame.assign(cnn=cnn, region=region))
    return pd.concat(frames, ignore_index=True)


def crossed_accuracies(study: Study, arch: str = "inception_v3") -> pd.DataFrame:
    """Measure the test accuracy of both CNNs of ``TELLING`` on both sets of scenes (section 4.3.6).

    Parameters
    ----------
    study
        Run whose CNNs are measured.
    arch
        Architecture of the CNNs.

    Returns
    -------
    pd.DataFrame
        One row for each CNN and set of scenes, with a 95 % Wilson interval.
    """
    rows = []
    for cnn, cnn_of in TELLING.items():
        (fitted,) = study.classifiers([(cnn_of, arch)]).values()
        for scenes in TELLING.values():
            test = study.image_data(scenes, arch).test
            right = predict(fitted.model, test).argmax(1) == test.labels
            accuracy = right.double().mean().item()
            low, high = proportion_ci(accuracy, len(right))
            rows.append([cnn, study.labels()[scenes], len(right), accuracy, low, high])
    return pd.DataFrame(rows, columns=["cnn", "scenes", "n", "accuracy", "low", "high"])


def analogy(study: Study, case: Case) -> pd.DataFrame:
    """Compare each method's maps with Vanilla Saliency, as Fig. 6 does by eye (section 4.3.2).

    Parameters
    ----------
    study
        Run whose maps are compared.
    case
        Data set, CNN and strategy.

    Returns
    -------
    pd.DataFrame
        One row for each method but "all ones", and image. ``additional`` is the mean of Saliency where the
        map marks and Grad-CAM does not, minus that where neither does (see ``metrics.additional_regions``).
        The other two compare whole maps: ``rank correlation`` is Spearman's over pixels, and ``SSIM`` is
        structural similarity (Wang 2004) with a window of 7 pixels.
    """
    maps, frames = study.maps(*case), []
    labels = study.explained(*case[:2], "test").labels
    saliency = study.compared(*case[:2], range(len(labels)), ["Saliency"])["Saliency"]
    for method, drawn in maps.items():
        if method == "all ones":
            continue  # a flat map has no correlation
        similarity = [
            structural_similarity(a, b, data_range=1.0, win_size=7)
            for a, b in zip(drawn.numpy(), saliency.numpy(), strict=True)
        ]
        columns = {
            "additional": metrics.additional_regions(drawn, maps["Grad-CAM"], saliency).numpy(),
            "rank correlation": metrics.rank_correlation(drawn, saliency).numpy(),
            "SSIM": similarity,
        }
        frames.append(_named(study, case, pd.DataFrame(columns), method, labels))
    return pd.concat(frames, ignore_index=True)


def intensities(study: Study, cases: Sequence[Case]) -> pd.DataFrame:
    """Measure the mean of each method's map on the object (section 4.3.4).

    Parameters
    ----------
    study
        Run whose maps are measured.
    cases
        Data set, CNN and strategy of each case; cases whose objects are unknown are left out.

    Returns
    -------
    pd.DataFrame
        One row for each case, method and image, with ``intensity``.
    """
    frames = []
    for case in cases:
        explained = study.explained(*case[:2], "test")
        if explained.masks is not None:
            for method, maps in study.maps(*case).items():
                frame = pd.DataFrame({"intensity": metrics.foreground_mean(maps, explained.masks).numpy()})
                frames.append(_named(study, case, frame, method, explained.labels))
    return pd.concat(frames, ignore_index=True)


def by_strategy(study: Study, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Compare the LSFT of both strategies on the same unseen pairs (Fig. 9, section 4.3.5).

    Parameters
    ----------
    study
        Run whose GANs are compared.
    pairs
        Data set and CNN of each unseen pair.

    Returns
    -------
    pd.DataFrame
        Rows of ``scores``. ``method`` is "trained on similar" or "trained on dissimilar", and ``marked`` is
        the share of the picture that the map marks.
    """
    found = scores(study, [(*pair, strategy) for pair in pairs for strategy in STRATEGIES])
    found = found[found["method"] == "LSFT"]
    marked = (found["tp"] + found["fp"]) / study.profile.gan_size**2
    return found.assign(method="trained on " + found["strategy"], marked=marked)


def questions(study: Study, methods: Sequence[str], n: int, task: str = "classification") -> list[Question]:
    """Make survey questions from random images, each with the maps of several methods (section 6).

    The seed picks the images. For classification, they are spread evenly over the selected pairs, and the
    seed also picks the pairs that get one more. The maps explain the predicted class, right or wrong. For
    captioning, they explain the subject of the written caption.

    Parameters
    ----------
    study
        Run whose maps are shown.
    methods
        Methods to compare.
    n
        Number of questions.
    task
        "classification" or "captioning".

    Returns
    -------
    list[Question]
        The n questions.

    Raises
    ------
    InputError
        If a name is unknown, ``n`` is not a whole number of at least 1, or the run has fewer images.
    """
    check_name(task, ("classification", "captioning"), "task")
    check_counts(questions=n)
    found = (
        _caption_questions(study, methods, n) if task == "captioning" else _class_questions(study, methods, n)
    )
    if len(found) < n:
        raise InputError(f"this run has images for {len(found)} of {n} questions: ask for fewer.")
    return found


def _class_questions(study: Study, methods: Sequence[str], n: int) -> list[Question]:
    rng, found, pairs = np.random.default_rng(study.seed), [], study.pairs()
    one_more = set(rng.permutation(len(pairs))[: n % len(pairs)].tolist())
    for k, pair in enumerate(pairs):
        explained, maps = study.explained(*pair, "test"), study.maps(*pair)
        two = {check_name(method, maps, "method"): maps[method] for method in methods}
        classes = study.image_data(pair[0]).classes
        share = n // len(pairs) + (k in one_more)
        for i in rng.permutation(len(explained.labels))[:share].tolist():
            caption = classes[explained.predictions[i]]
            found.append(
                Question(
                    explained.examples.images[i], caption, {method: drawn[i] for method, drawn in two.items()}
                )
            )
    return found


def _caption_questions(study: Study, methods: Sequence[str], n: int) -> list[Question]:
    found: list[Question] = []
    test = study.captions().test
    for image in np.random.default_rng(study.seed).permutation(len(test)).tolist():
        if len(found) == n:
            break
        caption, maps = words.maps(study, image)
        role_of = roles(caption, study.captions().source)
        if "subject" in role_of:
            at = role_of.index("subject")
            two = {check_name(method, maps, "method"): maps[method][at] for method in methods}
            found.append(Question(test.batch(image), f"“{' '.join(caption)}”: the word “{caption[at]}”", two))
    return found


def by_rule(frame: pd.DataFrame, value: str, seed: int) -> dict[str, int]:
    """Choose images of one pair by four rules: one at random, and the best, median and worst by a measure.

    The seed and the pair determine the random choice.

    Parameters
    ----------
    frame
        One row for each image of the pair, with ``dataset``, ``arch`` and ``image``.
    value
        Column with the measure; larger is better.
    seed
        Seed of the random choice.

    Returns
    -------
    dict[str, int]
        Image by rule: "drawn" (at random), "best", "median" and "worst".

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"dataset": "mnist", "arch": "vgg16", "image": range(3), "dice": [.5, .9, .1]})
    >>> chosen = by_rule(frame, "dice", seed=0)
    >>> chosen["best"], chosen["median"], chosen["worst"]
    (1, 0, 2)
    """
    ranked = frame.sort_values(value, kind="stable")["image"].to_list()
    pair = "{dataset} {arch}".format(**frame.iloc[0])
    drawn = int(np.random.default_rng([seed, *pair.encode()]).choice(sorted(ranked)))
    return {"drawn": drawn, "best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}


def check_counts(**counts: int) -> None:
    """Check that all counts are whole numbers of at least 1.

    Parameters
    ----------
    **counts
        Numbers to check, by the name that the message shows.

    Raises
    ------
    InputError
        If a number is not a whole number of at least 1.

    Examples
    --------
    >>> check_counts(n_images=0)
    Traceback (most recent call last):
    sftgan.errors.InputError: n_images is 0: give a whole number of at least 1.
    """
    for name, n in counts.items():
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InputError(f"{name} is {n!r}: give a whole number of at least 1.")


def _named(study: Study, case: Case, frame: pd.DataFrame, method: str, labels: Tensor) -> pd.DataFrame:
    """Add columns to a frame with one row for each image that say what it is about."""
    dataset, arch, strategy = case
    source = next(row["source"] for row in study.data_sources() if row["dataset"] == dataset)
    return frame.assign(
        image=range(len(frame)), label=labels.numpy(), method=method, dataset=dataset, arch=arch, strategy=strategy,
        data=study.labels()[dataset], source=source, profile=study.profile.name, seed=study.seed,
    )  # fmt: skip


def pooled(study: Study, stage: Stage, cases: Sequence[Case], own: Config) -> pd.DataFrame:
    """Compute a stage for each case and concatenate its frames.

    Parameters
    ----------
    study
        Run that the cases belong to.
    stage
        Stage that returns one frame for each case.
    cases
        Data set, CNN and strategy of each case.
    own
        Parameters of the stage besides the case.

    Returns
    -------
    pd.DataFrame
        The rows of all cases, with data set, CNN, strategy, profile and seed.
    """
    configs = [{"title": f"{c[1]} on {c[0]}", "case": study.case(*c), **own} for c in cases]
    frames = stage.all(configs, study.runtime)
    names = study.labels()
    return pd.concat(
        [
            frame.assign(
                dataset=d, arch=a, strategy=s, data=names[d], profile=study.profile.name, seed=study.seed
            )
            for frame, (d, a, s) in zip(frames, cases, strict=True)
        ],
        ignore_index=True,
    )


def _noise(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    test, n = config["case"]["test"], config["n_images"]
    arch, reading = test["cnn"]["arch"], Reading(**test["reading"])
    model = CLASSIFIER(test["cnn"], runtime).model.to(runtime.device)
    split = IMAGE_DATA(test["data"], runtime).chosen(**test["images"])
    clean, train = (EXPLAINED(config["case"][part], runtime) for part in ("test", "train"))
    truth = (metrics.binarise(clean.examples.targets) if clean.masks is None else clean.masks)[:n]
    gans = generators(config["case"]["gans"], runtime)
    block, frames = last_block(model, arch), []
    for density in config["densities"]:
        noisy = salt_and_pepper(split.batch()[:n], density, config["seed"])
        shown, _, logits = examples(model, noisy, test["size"], reading, block)
        right = logits.argmax(1) == split.labels[:n]
        drawn = {name: generate(gan, shown) for name, gan in gans.items()} | {"Grad-CAM": shown.targets}
        drawn |= {"mean map": train.examples.targets.mean(0).expand_as(shown.targets)}
        drawn |= {"luminance": luminance(shown.images)}
        for method, maps in drawn.items():
            frame = pd.DataFrame({
                "density": density, "method": method, "image": range(len(maps)), "right": right.numpy(),
                "chance": 1 / logits.shape[1],
                "background": metrics.background_error(maps, truth),
                "foreground share": metrics.foreground_share(maps, truth),
            })  # fmt: skip
            frames.append(frame.assign(truth="Grad-CAM" if clean.masks is None else "object"))
    return pd.concat(frames, ignore_index=True)


def _relevance(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    explained, train = (EXPLAINED(config["case"][part], runtime) for part in ("test", "train"))
    test, mean, masks = explained.examples, train.examples.conditions.mean(0), explained.masks
    truth, frames = metrics.binarise(test.targets) if masks is None else masks, []
    for name, generator in generators(config["case"]["gans"], runtime).items():
        maps = generate(generator, test)
        share = metrics.foreground_share(maps, truth)
        for replacement, c, conditions in metrics.replaced(test.conditions, mean):
            without = generate(generator, Examples(test.images, conditions, test.targets))
            frame = pd.DataFrame({
                "replacement": replacement, "c": c, "image": range(len(maps)),
                "relevance": metrics.relevance(maps, without),
                "intensity lost": (maps - without).double().mean((1, 2)),
                "foreground share lost": share - metrics.foreground_share(without, truth),
            })  # fmt: skip
            frames.append(frame.assign(method=name, truth="Grad-CAM" if masks is None else "object"))
    return pd.concat(frames, ignore_index=True)


NOISE = Stage(_noise, "metrics", "noise", "explained", "training", "baselines", after=[EXPLAINED, GAN])
RELEVANCE = Stage(_relevance, "metrics", "training", after=[EXPLAINED, GAN])
