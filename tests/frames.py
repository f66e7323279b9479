"""Frames like those of `experiments`, with known differences between methods."""

import itertools

import numpy as np
import pandas as pd


def scores(shift=0.2, n=40):
    """Method B is A plus `shift` with a little noise, on two data sets with different levels."""
    rng = np.random.default_rng(0)
    rows = []
    for level, dataset in ((5.0, "second"), (0.0, "first")):
        base = level + rng.normal(size=n)
        for method, values in {"A": base, "B": base + shift + 0.01 * rng.normal(size=n)}.items():
            for image, value in enumerate(values):
                rows.append([dataset, dataset.title(), "net", method, "strokes", image, value])
    columns = ["dataset", "data", "arch", "method", "truth", "image", "dice"]
    return pd.DataFrame(rows, columns=columns)


def seeded(shifts, n=40):
    """`scores` of one training for each shift of B over A, on the same images."""
    parts = [scores(shift, n).assign(seed=seed) for seed, shift in enumerate(shifts)]
    return pd.concat(parts, ignore_index=True)


def beside_controls(n=50):
    """By net, dice of methods and controls: "good" beats each control, "middling" only the worse, "ones" is best."""
    rng, rows = np.random.default_rng(0), []
    levels = {"good": 0.8, "middling": 0.6, "level": 0.7, "luminance": 0.5, "ones": 0.7}
    for arch, image in itertools.product(("net", "other"), range(n)):
        hard = rng.normal(0, 0.2)
        rows += [[arch, m, image, level + hard + rng.normal(0, 0.02)] for m, level in levels.items()]
    return pd.DataFrame(rows, columns=["arch", "method", "image", "dice"]).assign(dataset="d", data="D")


def confidences(n=60):
    """Method B keeps more of the confidence than A; C is B on every second image and A on the others."""
    rng = np.random.default_rng(0)
    original = rng.uniform(0.5, 1, n)
    lost = {"A": rng.uniform(0.2, 0.3, n), "B": rng.uniform(0.05, 0.1, n)}
    lost["C"] = np.where(np.arange(n) % 2, lost["A"], lost["B"])
    frames = [
        pd.DataFrame({"E": original, "O": original - part, "method": name, "image": range(n)})
        for name, part in lost.items()
    ]
    return pd.concat(frames, ignore_index=True).assign(dataset="d", arch="a", data="D")


def roles_of_words(known=True, n=20):
    """LSFT's subjects are brighter than its verbs, and more on the subject than Grad-CAM's; nothing else differs."""
    rng = np.random.default_rng(0)
    rows = []
    for method in ("LSFT", "GSFT", "Grad-CAM"):
        for role in ("subject", "verb", "second noun"):
            intensity = 0.5 + 0.1 * ((method, role) == ("LSFT", "subject")) + 0.01 * rng.normal(size=n)
            share = 0.4 + 0.2 * ((method, role) == ("LSFT", "subject")) + 0.001 * rng.normal(size=n)
            rows += [
                [method, role, image, intensity[image], share[image] if known else np.nan]
                for image in range(n)
            ]
    frame = pd.DataFrame(rows, columns=["method", "role", "image", "intensity", "on the subject"])
    return frame.assign(dataset="coco", data="captioned scenes", arch="resnet50")


def under_noise(densities, n=12):
    """LSFT and GSFT are lines over the density, GSFT the worse and the steeper; "dissimilar" has them exchanged."""
    lines = {"LSFT": (0.3, 0.1, 0.7, -0.1), "GSFT": (0.4, 0.5, 0.65, -0.3), "mean map": (0.35, 0, 0.75, 0)}
    other = {"LSFT": "GSFT", "GSFT": "LSFT", "mean map": "mean map"}
    rng, rows = np.random.default_rng(0), []
    for strategy, dataset in (("similar", "mnist"), ("dissimilar", "cifar10")):
        for image, level in enumerate(rng.normal(0, 0.01, n)):
            for method, density in itertools.product(lines, densities):
                e, e_slope, s, s_slope = lines[method if strategy == "similar" else other[method]]
                error, share = level + e + e_slope * density, level + s + s_slope * density
                rows.append([strategy, dataset, image, method, density, error, share])
    columns = ["strategy", "dataset", "image", "method", "density", "background", "foreground share"]
    return pd.DataFrame(rows, columns=columns).assign(arch="net", data=lambda f: f["dataset"].str.upper())


def relevances(eta=8, n=12):
    """LSFT relies on all CGMAs alike, GSFT on the last; the last gives LSFT intensity, the first half its place."""
    rng, rows = np.random.default_rng(0), []
    for method, replacement, image in itertools.product(("GSFT", "LSFT"), ("mean", "zeros"), range(n)):
        level = rng.uniform(0.9, 1.1)
        for c in range(eta):
            alike, is_last = method == "LSFT", c == eta - 1
            lost = (0.3 * is_last, 0.02 * (c < eta // 2)) if alike else (0.0, 0.0)
            values = [level * (alike or is_last), *(level * v for v in lost)]
            rows.append([method, replacement, image, c, *values])
    columns = ["method", "replacement", "image", "c", "relevance", "intensity lost", "foreground share lost"]
    return pd.DataFrame(rows, columns=columns).assign(dataset="emnist", data="letters", arch="xception")


def shares(more: dict[str, float], n=40):
    """Like `experiments.shortcuts`: on the patch, method m has `more[m]` over the area for the shortcut CNN, none else.

    On the object it has as much less.
    """
    rng, rows = np.random.default_rng(0), []
    for method in (*more, "mean map", "luminance"):
        for cnn, region in itertools.product(("shortcut", "honest"), ("patch", "object")):
            shift = more.get(method, 0) * (cnn == "shortcut") * (1 if region == "patch" else -1)
            for image in range(n):
                beyond = shift + 0.01 * rng.normal()
                rows.append([method, cnn, region, image, 0.2 + beyond, 0.2, beyond])
    columns = ["method", "cnn", "region", "image", "share", "area", "beyond"]
    return pd.DataFrame(rows, columns=columns).assign(
        dataset="ppmi", data="telling scenes", arch="inception_v3"
    )
