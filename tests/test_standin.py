"""The network of VGG-16's size that ``python -m tests.standin`` runs the book with."""

import torch
from torchvision.models import VGG16_Weights

from helpers import Preprocess, sample

from .standin import SILENT, standin


@torch.no_grad()
def test_the_standin_says_what_the_embedded_network_says(embedded):
    x = Preprocess(256, 224)([sample("chelsea"), sample("coffee")])
    scores, want = standin()(x), embedded.network(x)
    names = VGG16_Weights.IMAGENET1K_V1.meta["categories"]
    places = [names.index(name) for name in embedded.class_names]
    assert want[0].std() > 1 and not torch.allclose(want[0], want[1], atol=1)
    torch.testing.assert_close(scores[:, places], want, rtol=1e-4, atol=1e-4)
    silent = torch.ones(1000, dtype=torch.bool).index_fill(0, torch.tensor(places), False)
    assert silent.sum() == 1000 - len(places)
    torch.testing.assert_close(scores[:, silent].mean(), torch.tensor(SILENT), rtol=1e-2, atol=0)
    assert scores[:, silent].max() < scores[:, places].min()
