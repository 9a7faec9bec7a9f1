"""Comparisons that compare something."""

from __future__ import annotations

import torch


def assert_close(got: torch.Tensor, want: torch.Tensor, **tolerances) -> None:
    """:func:`torch.testing.assert_close`, of two tensors of which neither is empty or all zero.

    What is compared with itself, or zeros with zeros, would agree whatever the code does.
    """
    assert got.untyped_storage().data_ptr() != want.untyped_storage().data_ptr(), "one tensor"
    assert want.any(), "nothing to compare: only zeros are wanted"
    torch.testing.assert_close(got, want, **tolerances)


def assert_each_differs(maps: torch.Tensor) -> None:
    """Of maps ``(N, ...)`` no two are alike, so that a test would notice if they were exchanged."""
    for i, one in enumerate(maps):
        assert not any(torch.allclose(one, other) for other in maps[:i]), f"map {i} is there twice"
