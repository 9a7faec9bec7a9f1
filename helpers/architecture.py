"""The name that `training` still imports :mod:`helpers.network` by."""

from .network import EMBEDDED_WIDTHS, VGG16, fold_batch_norm

__all__ = ["EMBEDDED_WIDTHS", "VGG16", "fold_batch_norm"]
