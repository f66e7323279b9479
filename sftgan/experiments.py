"""The paper's measurements as tidy frames: one row per pair, method and image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn import functional as F

from sftgan import metrics, words
from sftgan.architectures import BLOCKS, target_layer
from sftgan.baselines import CONTROLS
from sftgan.cache import Config, Runtime, Stage
from sftgan.captions import roles
from sftgan.cgma import cgma, positions
from sftgan.classifiers import predict
from sftgan.errors import InputError, check_name
from sftgan.explain import examples
from sftgan.gradcam import layer_cams
from sftgan.networks import count_parameters
from sftgan.noise import check_densities, salt_and_pepper
from sftgan.stages import CLASSIFIER, EXPLAINED, GAN, IMAGE_DATA, MAPS
from sftgan.study import Study
from sftgan.survey import Question
from sftgan.training import Examples, TrainedGAN, generate

METHODS = ("LSFT", "GSFT", "Grad-CAM", *CONTROLS)
TRUTHS = ("object", "Grad-CAM")
Case = tuple[str, str, str]
"""A data set, a CNN, and the strategy whose GANs explain it."""


def selected(study: Study) -> list[Case]:
    """The selected pairs, each explained by the GANs of its own strategy."""
    return [(dataset, arch, study.strategy(dataset)) for dataset, arch in study.pairs()]


def accuracies(study: Study, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """One row per CNN: its size and test accuracy with a 95 % Wilson interval."""
    rows = []
    for (dataset, arch), fitted in study.classifiers(pairs).items():
        n = int(fitted.confusion.sum())
        test = binomtest(int(fitted.confusion.trace()), n).proportion_ci(method="wilson")
        rows.append({
            "data": study.labels()[dataset],
            "dataset": dataset,
            "arch": arch,
            "parameters": count_parameters(fitted.model),
            "classes": len(fitted.confusion),
            "test images": n,
            "accuracy": fitted.test_accuracy,
            "low": test.low,
            "high": test.high,
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


def progress(study: Study, gan: TrainedGAN, dataset: str) -> pd.DataFrame:
    """Learning curve of a GAN on the watched examples of one data set: epoch, step, Dice with Grad-CAM (4.3.3)."""
    overlap = [
        torch.stack(
            [metrics.dice(metrics.binarise(maps), truth) for maps in study.previews(gan, dataset, arch)]
        )
        for arch in study.profile.cnns
        for truth in [metrics.binarise(study.explained(dataset, arch, "watched").examples.targets)]
    ]
    return gan.curve[["epoch", "step"]].assign(dice=torch.cat(overlap, dim=1).mean(1).numpy())


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


def faithfulness(
    study: Study, cases: Sequence[Case], confidence: str = "predicted", n_curves: int = 16, steps: int = 10
) -> pd.DataFrame:
    """Table 3: the CNN's confidence on the images (E) and on their energy maps (O), per method and image (4.2.3).

    confidence: in the "predicted" class, which the maps explain, or in the "labelled" one. area: mean of the map.
    insertion, deletion: areas under the curves of `metrics.perturbed`, for the first `n_curves` images, else NaN.
    """
    check_name(confidence, ("predicted", "labelled"), "confidence")
    _check_counts(n_curves=n_curves, steps=steps)
    own = {"confidence": confidence, "n_curves": n_curves, "steps": steps}
    return _pooled(study, FAITHFULNESS, cases, own)


def noise(study: Study, cases: Sequence[Case], densities: Sequence[float], n_images: int) -> pd.DataFrame:
    """Figs. 12 and 13: maps of the first `n_images` images of each case under salt-and-pepper noise (4.4).

    Per density, method and image: background (Eq. 9), foreground share, whether the CNN is right, and the ground
    truth: the "object", or on photographs the binarised "Grad-CAM" of the clean image. Where that is empty the
    measures are NaN.
    """
    check_densities(densities)
    _check_counts(n_images=n_images)
    own = {"densities": [float(d) for d in densities], "n_images": n_images, "seed": study.seed}
    return _pooled(study, NOISE, cases, own)


def relevance(study: Study, cases: Sequence[Case]) -> pd.DataFrame:
    """Eq. 10, Figs. 14 and 15: how far the map moves when one CGMA is replaced (section 5).

    Per method (LSFT, GSFT), CGMA c, replacement and image: relevance, a sum over pixels of the scalar map.
    replacement: "zeros" as in the paper, "mean" of the pair's training examples, "another image".
    """
    return _pooled(study, RELEVANCE, cases, {})


def shortcuts(study: Study, arch: str = "inception_v3") -> pd.DataFrame:
    """Fig. 10: how much of each map lies on the ground that gives the class away (4.3.6).

    Per CNN ("shortcut", "honest"), method and image of the scenes that have a shortcut: the shares of the map's
    mass on it and on the object, and the part of the picture that each covers.
    """
    frames = []
    for cnn, cnn_of in (("shortcut", "ppmi"), ("honest", "ppmi_control")):
        explained = study.explained("ppmi", arch, "test", cnn_of)
        if explained.shortcuts is None:
            raise InputError(
                "where a shortcut lies is known of drawn scenes only: give ppmi the source embedded."
            )
        for method, maps in study.maps("ppmi", arch, "dissimilar", cnn_of).items():
            frame = pd.DataFrame({
                "on the shortcut": metrics.mass_share(maps, explained.shortcuts).numpy(),
                "on the object": metrics.mass_share(maps, explained.masks).numpy(),
                "shortcut's area": explained.shortcuts.double().mean((1, 2)).numpy(),
                "object's area": explained.masks.double().mean((1, 2)).numpy(),
            })  # fmt: skip
            frame = _named(study, ("ppmi", arch, "dissimilar"), frame, method, explained.labels)
            frames.append(frame.assign(cnn=cnn))
    return pd.concat(frames, ignore_index=True)


def crossed_accuracies(study: Study, arch: str = "inception_v3") -> pd.DataFrame:
    """Test accuracy of the CNN fitted to each set of telling scenes, on either set (4.3.6): cnn, scenes, accuracy."""
    rows = []
    for cnn, cnn_of in (("shortcut", "ppmi"), ("honest", "ppmi_control")):
        (fitted,) = study.classifiers([(cnn_of, arch)]).values()
        for scenes in ("ppmi", "ppmi_control"):
            test = study.image_data(scenes, arch).test
            right = (predict(fitted.model, test).argmax(1) == test.labels).numpy()
            rows.append(
                {"cnn": cnn, "scenes": study.labels()[scenes], "n": len(right), "accuracy": right.mean()}
            )
    return pd.DataFrame(rows)


def analogy(study: Study, case: Case) -> pd.DataFrame:
    """Fig. 6 as numbers: how alike each method's map is to Vanilla Saliency, per image (4.3.2).

    Spearman correlation over pixels, and structural similarity (Wang 2004) with a window of 7 pixels.
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
        columns = {"rank correlation": metrics.rank_correlation(drawn, saliency).numpy(), "SSIM": similarity}
        frames.append(_named(study, case, pd.DataFrame(columns), method, labels))
    return pd.concat(frames, ignore_index=True)


def questions(study: Study, methods: Sequence[str], n: int, task: str = "classification") -> list[Question]:
    """Survey questions (section 6): n images drawn by the seed, evenly over the selected pairs, with two methods' maps.

    task: "classification", of the predicted class, or "captioning", of the subject of the written caption.
    """
    check_name(task, ("classification", "captioning"), "task")
    _check_counts(questions=n)
    found = (
        _caption_questions(study, methods, n) if task == "captioning" else _class_questions(study, methods, n)
    )
    if len(found) < n:
        raise InputError(f"this run has images for {len(found)} questions only, {n} were asked for.")
    return found


def _class_questions(study: Study, methods: Sequence[str], n: int) -> list[Question]:
    rng, found, pairs = np.random.default_rng(study.seed), [], study.pairs()
    for k, pair in enumerate(pairs):
        explained, maps = study.explained(*pair, "test"), study.maps(*pair)
        two = {check_name(method, maps, "method"): maps[method] for method in methods}
        classes = study.image_data(pair[0]).classes
        share = n // len(pairs) + (k < n % len(pairs))
        for i in rng.permutation(len(explained.labels))[:share].tolist():
            caption = classes[explained.predictions[i]]
            found.append(
                Question(
                    explained.examples.images[i], caption, {method: drawn[i] for method, drawn in two.items()}
                )
            )
    return found


def _caption_questions(study: Study, methods: Sequence[str], n: int) -> list[Question]:
    found, test = [], study.captions().test
    for image in range(len(test)):
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
    """Which images to show: one drawn by the seed, and the best, median and worst by `value`. Name -> image."""
    ranked = frame.sort_values(value, kind="stable")["image"].to_list()
    drawn = int(np.random.default_rng(seed).choice(sorted(ranked)))
    return {"drawn": drawn, "best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}


def _check_counts(**counts: int) -> None:
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


def _pooled(study: Study, stage: Stage, cases: Sequence[Case], own: Config) -> pd.DataFrame:
    """The frames that a stage gives for each case, under one another."""
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


def _faithfulness(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    test = config["case"]["test"]
    model = CLASSIFIER(test["cnn"], runtime).model
    split = IMAGE_DATA(test["data"], runtime).chosen(**test["images"])
    images, n = split.batch(), config["n_curves"]

    def confidences(images: Tensor) -> Tensor:
        return torch.cat([model(part).softmax(1) for part in images.split(128)])

    with torch.no_grad():
        on_images = confidences(images)
        classes = (on_images.argmax(1) if config["confidence"] == "predicted" else split.labels)[:, None]
        original, frames = on_images.gather(1, classes)[:, 0], []
        for method, maps in MAPS(config["case"], runtime).items():
            energy = confidences(metrics.energy_map(images, maps)).gather(1, classes)[:, 0]
            sized = F.interpolate(maps[:n, None], images.shape[-2:], mode="bilinear", antialias=True)[:, 0]
            curves = torch.stack([
                torch.stack([confidences(part).gather(1, classes[:n])[:, 0] for part in pair])
                for pair in metrics.perturbed(images[:n], sized, config["steps"])
            ], dim=-1)  # fmt: skip
            deletion, insertion = metrics.area_under_curve(curves).double().numpy()
            frame = pd.DataFrame({
                "method": method, "image": range(len(images)), "E": original.double(), "O": energy.double(),
                "area": maps.double().mean((1, 2)),
            })  # fmt: skip
            frames.append(frame.assign(deletion=pd.Series(deletion), insertion=pd.Series(insertion)))
    return pd.concat(frames, ignore_index=True)


def _noise(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    test, n = config["case"]["test"], config["n_images"]
    arch, options = test["cnn"]["arch"], [test[key] for key in ("size", "eta", "tap", "rounding")]
    model = CLASSIFIER(test["cnn"], runtime).model
    split = IMAGE_DATA(test["data"], runtime).chosen(**test["images"])
    clean = EXPLAINED(test, runtime)
    truth = (metrics.binarise(clean.examples.targets) if clean.masks is None else clean.masks)[:n]
    gans = {kind.upper(): GAN(gan, runtime).generator for kind, gan in config["case"]["gans"].items()}
    block, frames = target_layer(model, arch) if arch in BLOCKS else None, []
    for density in config["densities"]:
        noisy = salt_and_pepper(split.batch()[:n], density, config["seed"])
        shown, _, logits = examples(model, noisy, *options, block)
        right = logits.argmax(1) == split.labels[:n]
        drawn = {name: generate(gan, shown) for name, gan in gans.items()} | {"Grad-CAM": shown.targets}
        for method, maps in drawn.items():
            frame = pd.DataFrame({
                "density": density, "method": method, "image": range(len(maps)), "right": right.numpy(),
                "background": metrics.background_error(maps, truth),
                "foreground share": metrics.foreground_share(maps, truth),
            })  # fmt: skip
            frames.append(frame.assign(truth="Grad-CAM" if clean.masks is None else "object"))
    return pd.concat(frames, ignore_index=True)


def _relevance(config: Config, runtime: Runtime, checkpoint: Path) -> pd.DataFrame:
    test, train = (EXPLAINED(config["case"][part], runtime).examples for part in ("test", "train"))
    replacements = {
        "zeros": torch.zeros_like(test.conditions),
        "mean": train.conditions.mean(0).expand_as(test.conditions),
        "another image": test.conditions.roll(1, 0),
    }
    frames = []
    for kind, gan in config["case"]["gans"].items():
        generator = GAN(gan, runtime).generator
        maps = generate(generator, test)
        for name, other in replacements.items():
            for c in range(test.conditions.shape[1]):
                conditions = test.conditions.clone()
                conditions[:, c] = other[:, c]
                without = generate(generator, Examples(test.images, conditions, test.targets))
                frame = pd.DataFrame(
                    {"relevance": metrics.relevance(maps, without), "image": range(len(maps))}
                )
                frames.append(frame.assign(method=kind.upper(), c=c, replacement=name))
    return pd.concat(frames, ignore_index=True)


FAITHFULNESS = Stage(_faithfulness, "metrics", after=[MAPS, CLASSIFIER])
NOISE = Stage(_noise, "metrics", "noise", "explain", "training", after=[EXPLAINED, GAN])
RELEVANCE = Stage(_relevance, "metrics", "training", after=[EXPLAINED, GAN])
