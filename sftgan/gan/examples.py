"""Examples that a generator is trained on: images, conditions and target maps."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sftgan.cams.conditions import ConditionSpec, pictures
from sftgan.cams.gradcam import block_cam, coarse_cams


@dataclass(frozen=True)
class Examples:
    """Training or test examples of a generator, all float32 in [0, 1].

    Attributes
    ----------
    images
        Images (n, 3, h, w).
    conditions
        CGMAs (n, eta, h2, w2).
    targets
        Maps (n, h, w) that the generator learns to draw.

    Examples
    --------
    >>> import torch
    >>> pair = Examples(torch.rand(2, 3, 8, 8), torch.rand(2, 4, 8, 8), torch.rand(2, 8, 8))
    >>> len(pair)
    2
    """

    images: Float[Tensor, "n 3 h w"]
    conditions: Float[Tensor, "n eta h2 w2"]
    targets: Float[Tensor, "n h w"]

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, index: Int[Tensor, " m"] | Bool[Tensor, " n"]) -> "Examples":
        """Select some of the examples.

        Parameters
        ----------
        index
            Positions (m,), in any order, or a mask (n,).

        Returns
        -------
        Examples
            The selected examples.

        Examples
        --------
        >>> import torch
        >>> pair = Examples(torch.rand(2, 3, 8, 8), torch.rand(2, 4, 8, 8), torch.rand(2, 8, 8))
        >>> len(pair.subset(torch.tensor([1])))
        1
        """
        return Examples(self.images[index], self.conditions[index], self.targets[index])

    @staticmethod
    def concatenate(parts: list["Examples"]) -> "Examples":
        """Concatenate sets of examples.

        Parameters
        ----------
        parts
            At least one set; all have the same sizes and the same ``eta``.

        Returns
        -------
        Examples
            All examples, in order.

        Examples
        --------
        >>> import torch
        >>> pair = Examples(torch.rand(2, 3, 8, 8), torch.rand(2, 4, 8, 8), torch.rand(2, 8, 8))
        >>> len(Examples.concatenate([pair, pair]))
        4
        """
        return Examples(
            torch.cat([p.images for p in parts]),
            torch.cat([p.conditions for p in parts]),
            torch.cat([p.targets for p in parts]),
        )


@dataclass(frozen=True)
class ExplainedImages:
    """Images with all that one CNN says about them, at the size of the GANs.

    Attributes
    ----------
    examples
        Images, conditions and target maps of all n images.
    labels
        int64 (n,), the true classes.
    predictions
        int64 (n,), the classes that the CNN predicts.
    masks
        bool (n, H, W), True on the object; None where its place is not known.
    shortcuts
        bool (n, H, W), True on the part of the background that may give the class away; None where there is no
        such part.
    dead
        float (N,), for each layer the share of images for which its Grad-CAM has no contrast.
    activation
        Maps (n, H, W) in [0, 1]: the mean over the channels of the explained layer's output.
    """

    examples: Examples
    labels: Int[Tensor, " n"]
    predictions: Int[Tensor, " n"]
    masks: Bool[Tensor, "n h w"] | None
    shortcuts: Bool[Tensor, "n h w"] | None
    dead: Float[Tensor, " layers"]
    activation: Float[Tensor, "n h w"]

    @property
    def objects(self) -> Float[Tensor, "n h w"]:
        """Masks as maps (n, H, W) to plot; NaN, which is plotted as nothing, where there are no masks."""
        return torch.full_like(self.examples.targets, torch.nan) if self.masks is None else self.masks.float()


def explain_images(
    model: nn.Module,
    images: Float[Tensor, "n 3 h w"],
    size: int,
    spec: ConditionSpec | None = None,
    block: nn.Module | None = None,
    batch: int = 64,
    targets: Int[Tensor, " n"] | None = None,
) -> tuple[Examples, Bool[Tensor, "n layers"], Float[Tensor, "n ..."]]:
    """Compute a generator's training examples from a CNN and images (section 3.1).

    Parameters
    ----------
    model
        Classifier that maps images to logits (n, C).
    images
        Images (n, 3, H, W) in [0, 1], on any device.
    size
        Side of the examples in pixels.
    spec
        How conditions and target are computed; None for the paper's way.
    block
        Module whose Grad-CAM is the target if ``spec.target`` is "last"; None for the last convolution.
    batch
        Number of images at a time, on the model's device.
    targets
        Class to explain for each image; None for what ``spec.explained_class`` says.

    Returns
    -------
    tuple[Examples, Tensor, Tensor]
        Examples, bool (n, N) that is True for maps without contrast, and logits (n, C); all on the images' device.

    Raises
    ------
    InputError
        If images, model or targets are invalid, as for ``layer_cams``, or the model has fewer layers than
        there are positions.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(32, 5))
    >>> shown, dead, logits = explain_images(model, torch.rand(3, 3, 8, 8), size=16, spec=ConditionSpec(eta=2))
    >>> shown.conditions.shape, dead.shape, logits.shape
    (torch.Size([3, 2, 16, 16]), torch.Size([3, 2]), torch.Size([3, 5]))
    """
    spec = spec or ConditionSpec()
    parts, dead, logits = [], [], []
    device = next(model.parameters()).device
    for i in range(0, len(images), batch):
        chunk = images[i : i + batch].to(device)
        classes = spec.explained_class_for(None if targets is None else targets[i : i + batch].to(device))
        cams = coarse_cams(model, chunk, classes, spec.tap, size, spec.gradients)
        shown = pictures(chunk, (size, size))
        conditions, target = spec.conditions_and_target(cams)
        if block is not None and spec.target == "last":
            target = block_cam(model, block, chunk, classes, size)
        parts.append(Examples(*(part.to(images.device) for part in (shown, conditions, target))))
        dead.append(cams.dead.to(images.device))
        logits.append(cams.logits.to(images.device))
    return Examples.concatenate(parts), torch.cat(dead), torch.cat(logits)
