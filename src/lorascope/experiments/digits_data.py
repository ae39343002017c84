"""Handwritten digits, as scikit-learn bundles them."""

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from ..errors import SpecError
from ..shapes import Float

__all__ = ["Digits", "load"]


@dataclass(frozen=True)
class Digits:
    """Scikit-learn's 1797 images of 8 x 8 pixels, in [0, 1], split at random.

    Attributes:
        train, test: images, one a row.
        train_labels, test_labels: integers from 0 to 9, (images,).
    """

    train: Float[Tensor, "train 64"]
    train_labels: Tensor
    test: Float[Tensor, "test 64"]
    test_labels: Tensor


def load(test_images: int, generator: torch.Generator) -> Digits:
    """The bundled digits, ``test_images`` of them held out at random.

    Raises:
        SpecError: no image left to train or to test on.

    >>> data = load(450, torch.Generator().manual_seed(0))
    >>> data.train.shape, float(data.test.max())
    (torch.Size([1347, 64]), 1.0)
    """
    pixels, digits = load_digits(return_X_y=True)
    images, labels = torch.as_tensor(pixels, dtype=torch.float64) / 16, torch.as_tensor(digits)
    if not 0 < test_images < len(images):
        raise SpecError(f"test_images must be between 1 and {len(images) - 1}, got {test_images}")
    test, train = torch.randperm(len(images), generator=generator).split([test_images, len(images) - test_images])
    return Digits(images[train], labels[train], images[test], labels[test])
