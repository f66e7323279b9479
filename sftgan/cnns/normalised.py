"""A CNN with its normalisation inside."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LITE0_MEAN_STD = (127 / 255,) * 3, (128 / 255,) * 3


class Normalised(nn.Module):
    """Network with its normalisation in front, so that it takes images in [0, 1].

    Parameters
    ----------
    net
        Network that takes normalised images.
    mean
        Mean of each channel, or a single one for all channels.
    std
        Standard deviation of each channel, or a single one for all channels.

    Attributes
    ----------
    mean
        Means as a buffer (1, c, 1, 1).
    std
        Standard deviations as a buffer (1, c, 1, 1).

    Examples
    --------
    >>> import torch
    >>> Normalised(nn.Flatten(), mean=[0.5], std=[0.25])(torch.tensor([[[[0.0, 0.5, 1.0]]]]))
    tensor([[-2.,  0.,  2.]])
    """

    mean: Float[Tensor, "1 c 1 1"]
    std: Float[Tensor, "1 c 1 1"]

    def __init__(
        self, net: nn.Module, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
    ):
        super().__init__()
        self.net = net
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Tensor:
        """Normalise images and apply the network.

        Parameters
        ----------
        images
            Images (b, c, h, w) in [0, 1].

        Returns
        -------
        Tensor
            Output of the network, for classifiers logits (b, classes).
        """
        return self.net((images - self.mean) / self.std)
