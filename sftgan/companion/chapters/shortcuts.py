"""CNNs with and without a shortcut, and maps that tell them apart (paper, Fig. 8; chapter 06)."""

import math
from collections.abc import Sequence

import pandas as pd

from sftgan import metrics
from sftgan.companion.fitting.classifiers import predict
from sftgan.companion.report.claims import COLUMNS, UNTESTED, above_zero, pairwise
from sftgan.companion.report.statistics import differences
from sftgan.companion.study.frames import with_origin
from sftgan.companion.study.gallery import Gallery
from sftgan.companion.study.study import Study
from sftgan.controls import CONTROLS
from sftgan.errors import InputError
from sftgan.gan.examples import ExplainedImages
from sftgan.intervals import proportion_ci


def between_cnns(shares: pd.DataFrame) -> pd.DataFrame:
    """Judge whether each method tells the two CNNs of ``shortcuts.shortcuts`` apart.

    The claims are that a method puts more of its map on the patch for the CNN that learned the patch, and
    less on the object. An image whose map is empty for either CNN is left out. The controls "all ones" and
    "luminance" are left out because they do not depend on the CNN.

    Parameters
    ----------
    shares
        Frame of ``shortcuts.shortcuts``.

    Returns
    -------
    pd.DataFrame
        Rows of ``statistics.differences`` with ``claim`` and ``region``, one for each region and method.
    """
    parts = []
    for region, first, second, claim in (
        ("patch", "shortcut", "honest", " puts more on the patch for the shortcut CNN"),
        ("object", "honest", "shortcut", " puts less on the object for the shortcut CNN"),
    ):
        part = shares[(shares["region"] == region) & ~shares["method"].isin(["all ones", "luminance"])]
        both = pairwise(part, "share", ["method", "image"])
        both = both.assign(who=both["method"], method=both["cnn"])
        found = differences(both, "share", first, [second], by=["who"]).rename(columns={"who": "method"})
        parts.append(found.assign(claim=found["method"] + claim, region=region))
    return pd.concat(parts, ignore_index=True)


def beyond_mean_map(shares: pd.DataFrame) -> pd.DataFrame:
    """Judge whether each method puts more of its map on the patch than the CNN's mean map.

    The mean map is the same for every image.

    Parameters
    ----------
    shares
        Frame of ``shortcuts.shortcuts``.

    Returns
    -------
    pd.DataFrame
        Rows of ``statistics.differences`` with ``claim``, one for each CNN and method.
    """
    patch, parts = shares[shares["region"] == "patch"], []
    for method in patch["method"].unique():
        two = patch[patch["method"].isin([method, "mean map"])]
        two = pairwise(two, "share", ["cnn", "image"])
        if method not in CONTROLS and len(two):
            claim = f"{method} puts more on this image's patch than the mean map"
            parts.append(differences(two, "share", method, ["mean map"], by=["cnn"]).assign(claim=claim))
    return pd.concat(parts, ignore_index=True).sort_values("cnn", ascending=False, kind="stable")


def shortcut_claims(shares: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims of section 4.3.6.

    "Both methods mark the background" can be tested only if Grad-CAM itself tells the shortcut CNN from the
    honest one (see ``between_cnns``). "LSFT marks more of it" can be tested only if one of the two methods
    does.

    Parameters
    ----------
    shares
        Frame of ``shortcuts.shortcuts``.

    Returns
    -------
    pd.DataFrame
        Rows as in ``judge``.
    """
    told = between_cnns(shares).set_index(["region", "method"])["verdict"]
    tells = {method: told.get(("patch", method)) == "holds" for method in ("Grad-CAM", "LSFT")}
    learned = shares[(shares["region"] == "patch") & (shares["cnn"] == "shortcut")]
    learned = learned[learned["method"].isin(tells)]
    marks = above_zero(learned, "beyond", ["method"])
    marks["claim"] = marks["method"] + " marks the background that the CNN uses"
    marks["comparison"] = "share on the patch − its area"
    both = pairwise(learned, "share", ["image"])
    more = differences(both, "share", "LSFT", ["Grad-CAM"]) if len(both) else pd.DataFrame(index=[0])
    more["claim"] = "LSFT finds additional regions (our reading: more of the patch than Grad-CAM)"
    found = pd.concat([marks.assign(testable=tells["Grad-CAM"]), more.assign(testable=any(tells.values()))])
    found = found.assign(**{"where": "section 4.3.6", "data here": "; ".join(learned["data"].unique())})
    found["verdict"] = found["verdict"].where(found["testable"] & found["n"].notna(), UNTESTED)
    return found.reindex(columns=COLUMNS).astype({"n": "Int64"}).reset_index(drop=True)


TELLING = {"shortcut": "ppmi", "honest": "ppmi_control"}
"""The two CNNs of section 4.3.6 and the scenes that each is trained on.

The patch in the scenes of the first tells the class; in those of the second it is random.
"""


def telling(study: Study, arch: str = "inception_v3") -> dict[str, ExplainedImages]:
    """Explain the test scenes with a telling patch for both CNNs of ``TELLING`` (section 4.3.6).

    Parameters
    ----------
    study
        Run whose "ppmi" has the source "embedded".
    arch
        Architecture of the CNNs.

    Returns
    -------
    dict[str, ExplainedImages]
        The explained scenes of each CNN.

    Raises
    ------
    InputError
        If the scenes are photographs, whose patch is unknown.
    """
    found = {cnn: study.explained_images("ppmi", arch, "test", cnn_of) for cnn, cnn_of in TELLING.items()}
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
                frame = with_origin(study, ("ppmi", arch, "dissimilar"), frame, method, explained.labels)
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


def shortcut(study: Study, names: Sequence[str], n: int = 4, arch: str = "inception_v3") -> Gallery:
    """Show the first scenes with a telling patch, with maps for both CNNs of ``TELLING`` (Fig. 10).

    Parameters
    ----------
    study
        Run whose "ppmi" has the source "embedded".
    names
        Methods from ``methods.OTHER_METHODS`` and ``frames.METHODS``.
    n
        Number of scenes.
    arch
        Architecture of the CNNs.

    Returns
    -------
    Gallery
        One row for each scene: picture, object, patch, and the maps for each CNN. The titles give the class
        and each CNN's prediction, the texts the share of the map's mass on the patch.

    Raises
    ------
    InputError
        If the scenes are photographs, whose patch is unknown.
    """
    explained = telling(study, arch)
    one, classes = explained["shortcut"], study.image_data("ppmi", arch).classes
    assert one.shortcuts is not None  # checked by ``telling``
    n, maps = min(n, len(one.labels)), []
    for of in TELLING.values():
        ours = study.maps("ppmi", arch, "dissimilar", of)
        others = study.compared("ppmi", arch, range(n), [name for name in names if name not in ours], of)
        maps += [ours[name][:n] if name in ours else others[name] for name in names]
    shares = [metrics.mass_share(drawn, one.shortcuts[:n]).tolist() for drawn in maps]
    rows, titles, texts = [], [], []
    for i in range(n):
        places = [one.objects[i], one.shortcuts[i].float()]
        rows.append([one.examples.images[i], *places, *(drawn[i] for drawn in maps)])
        said = [f"{cnn}: {classes[part.predictions[i]]}" for cnn, part in explained.items()]
        titles.append("\n".join([f"is: {classes[one.labels[i]]}", *said]))
        texts.append(["", "", "", *(_share(share[i]) for share in shares)])
    return rows, titles, texts


def _share(share: float) -> str:
    return "empty" if math.isnan(share) else f"{share:.2f}"
