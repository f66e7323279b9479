"""Cumulative averages and the last Grad-CAM (paper, section 3.1; chapter 01)."""

import pandas as pd

from sftgan import metrics
from sftgan.cams.cgma import cgma, positions
from sftgan.cams.gradcam import layer_cams
from sftgan.companion.study.study import Study


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
