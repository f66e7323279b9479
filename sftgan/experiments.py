"""The paper's measurements as tidy frames: one row per pair, method and image."""

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
"""The two CNNs of 4.3.6, and the scenes that each is fitted to: with a patch that tells the class, or one at random."""
Case = tuple[str, str, str]
"""A data set, a CNN, and the strategy whose GANs explain it."""


def selected(study: Study) -> list[Case]:
    """The selected pairs, each explained by the GANs of its own strategy."""
    return [(dataset, arch, study.strategy(dataset)) for dataset, arch in study.pairs()]


def accuracies(study: Study, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """One row per CNN: its size, N convolutions, and test accuracy with a 95 % Wilson interval."""
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
    """How much of the last layer's Grad-CAM is in earlier maps, for every CNN of the strategies (3.1).

    One row per CNN, position, image and kind ("single layer" or "average"): Pearson correlation over pixels.
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
    """`measure` of each of the study's `replicates`, under one another: the column seed tells them apart.

    What the replicates need is trained first, by as many processes as may run.
    """
    replicates = study.replicates()
    for replicate in replicates:
        for strategy in {study.strategy(dataset): None for dataset in study.datasets}:
            replicate.gans(strategy)
    return pd.concat([measure(replicate) for replicate in replicates], ignore_index=True)


def scores(study: Study, cases: Sequence[Case], threshold: float = 127) -> pd.DataFrame:
    """Tables 1 and 2: per method, ground truth and image tp, tn, fp, fn in pixels, and Dice (4.2.1, 4.2.2).

    Where the object is not known, as on photographs, the binarised Grad-CAM is the only ground truth.
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
    """Of `scores` the rows whose ground truth is the object, or Grad-CAM for data sets whose objects are not known."""
    known = scores.loc[scores["truth"] == "object", "dataset"].unique()
    return scores[(scores["truth"] == "object") | ~scores["dataset"].isin(known)]


def noise(study: Study, cases: Sequence[Case], densities: Sequence[float], n_images: int) -> pd.DataFrame:
    """Figs. 12 and 13: maps of the first `n_images` images of each case under salt-and-pepper noise (4.4).

    Per density, method and image: background (Eq. 9), foreground share, whether the CNN is right, what chance would
    get right, and the ground truth: the "object", or on photographs the binarised "Grad-CAM" of the clean image.
    Where that is empty the measures are NaN. Of the controls luminance is the noisy image's, and the mean map, which
    knows no image, never changes.
    """
    check_densities(densities)
    check_counts(n_images=n_images)
    own = {"densities": [float(d) for d in densities], "n_images": n_images, "seed": study.seed}
    return pooled(study, NOISE, cases, own)


def relevance(study: Study, cases: Sequence[Case]) -> pd.DataFrame:
    """Eq. 10, Figs. 14 and 15: how far the map moves when one CGMA is replaced (section 5).

    Per method (LSFT, GSFT), CGMA c from 0 on, replacement and image: relevance, a sum over pixels of the scalar map,
    and what the map loses: of its mean ("intensity lost") and of its foreground share, with the truth of `noise`.
    replacement: see `metrics.replaced`; the mean is that of the pair's training examples.
    """
    return pooled(study, RELEVANCE, cases, {})


def telling(study: Study, arch: str = "inception_v3") -> dict[str, Explained]:
    """The test scenes with a telling patch, explained for each CNN of `TELLING` (4.3.6)."""
    found = {cnn: study.explained("ppmi", arch, "test", cnn_of) for cnn, cnn_of in TELLING.items()}
    if found["shortcut"].shortcuts is None:
        raise InputError(
            "where a shortcut lies is known of drawn scenes only: give ppmi the source embedded."
        )
    return found


def shortcuts(study: Study, arch: str = "inception_v3") -> pd.DataFrame:
    """Fig. 10: how much of each map lies on the ground that gives the class away, and on the object (4.3.6).

    Per CNN of `TELLING`, region ("patch", "object"), method and image of the scenes with a telling patch: the share
    of the map's mass in the region, NaN for an empty map; the part of the picture that it covers, area; and beyond,
    the one minus the other. To the methods come Saliency and SmoothGrad, which are fine enough to show a patch.
    """
    frames = []
    for cnn, explained in telling(study, arch).items():
        maps = study.maps("ppmi", arch, "dissimilar", TELLING[cnn])
        every = range(len(explained.labels))
        maps |= study.compared("ppmi", arch, every, ["Saliency", "SmoothGrad"], TELLING[cnn])
        for region, mask in {"patch": explained.shortcuts, "object": explained.masks}.items():
            assert mask is not None  # `telling` has looked
            area = mask.double().mean((1, 2)).numpy()
            for method, drawn in maps.items():
                share = metrics.mass_share(drawn, mask).numpy()
                frame = pd.DataFrame({"share": share, "area": area, "beyond": share - area})
                frame = _named(study, ("ppmi", arch, "dissimilar"), frame, method, explained.labels)
                frames.append(frame.assign(cnn=cnn, region=region))
    return pd.concat(frames, ignore_index=True)


def crossed_accuracies(study: Study, arch: str = "inception_v3") -> pd.DataFrame:
    """Test accuracy of both CNNs of `TELLING` on either set of scenes, with a 95 % Wilson interval (4.3.6)."""
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
    """Fig. 6 as numbers: what each method's map has in common with Vanilla Saliency, per image (4.3.2).

    additional: Saliency where the map marks and Grad-CAM does not, minus where neither does (see
    `metrics.additional_regions`). And for the whole map Spearman correlation over pixels, and structural similarity
    (Wang 2004) with a window of 7 pixels.
    """
    maps, frames = study.maps(*case), []
    labels = study.explained(*case[:2], "test").labels
    saliency = study.compared(*case[:2], range(len(labels)), ["Saliency"])["Saliency"]
    for method, drawn in maps.items():
        if method == "all ones":
            continue  # flat: it has no correlation with anything
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
    """How intense each method's map is on the object, its mean there, per image (4.3.4), where objects are known."""
    frames = []
    for case in cases:
        explained = study.explained(*case[:2], "test")
        if explained.masks is not None:
            for method, maps in study.maps(*case).items():
                frame = pd.DataFrame({"intensity": metrics.foreground_mean(maps, explained.masks).numpy()})
                frames.append(_named(study, case, frame, method, explained.labels))
    return pd.concat(frames, ignore_index=True)


def by_strategy(study: Study, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Fig. 9: `scores` of the LSFT trained on either strategy, for the same unseen pairs (4.3.5).

    method: "trained on similar", "trained on dissimilar". marked: the share of the picture that the map marks.
    """
    found = scores(study, [(*pair, strategy) for pair in pairs for strategy in STRATEGIES])
    found = found[found["method"] == "LSFT"]
    marked = (found["tp"] + found["fp"]) / study.profile.gan_size**2
    return found.assign(method="trained on " + found["strategy"], marked=marked)


def questions(study: Study, methods: Sequence[str], n: int, task: str = "classification") -> list[Question]:
    """Survey questions (section 6): n images drawn by the seed, with two methods' maps and what the CNN says of them.

    task: "classification", of the predicted class, right or wrong, evenly over the selected pairs (those that have one
    more are drawn too), or "captioning", of the subject of the written caption. Raises InputError where a name is
    unknown or the run has fewer images.
    """
    check_name(task, ("classification", "captioning"), "task")
    check_counts(questions=n)
    found = (
        _caption_questions(study, methods, n) if task == "captioning" else _class_questions(study, methods, n)
    )
    if len(found) < n:
        raise InputError(f"this run has images for {len(found)} questions only, {n} were asked for.")
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
    """Which images of one pair to show: one drawn by the seed, and the best, median and worst by `value`.

    Rule -> image. The draw differs from pair to pair.
    """
    ranked = frame.sort_values(value, kind="stable")["image"].to_list()
    pair = "{dataset} {arch}".format(**frame.iloc[0])
    drawn = int(np.random.default_rng([seed, *pair.encode()]).choice(sorted(ranked)))
    return {"drawn": drawn, "best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}


def check_counts(**counts: int) -> None:
    """Raise InputError unless every number is a whole one of at least 1."""
    for name, n in counts.items():
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InputError(f"{name} is {n!r}: give a whole number of at least 1.")


def _named(study: Study, case: Case, frame: pd.DataFrame, method: str, labels: Tensor) -> pd.DataFrame:
    """`frame`, one row per image, with the columns that say what it is about."""
    dataset, arch, strategy = case
    source = next(row["source"] for row in study.data_sources() if row["dataset"] == dataset)
    return frame.assign(
        image=range(len(frame)), label=labels.numpy(), method=method, dataset=dataset, arch=arch, strategy=strategy,
        data=study.labels()[dataset], source=source, profile=study.profile.name, seed=study.seed,
    )  # fmt: skip


def pooled(study: Study, stage: Stage, cases: Sequence[Case], own: Config) -> pd.DataFrame:
    """The frames that a stage gives for each case, under one another; `own` are its parameters beside the case.

    Each row says which data set, CNN and strategy, and which profile and seed, it is of.
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
