"""The explicit way, for networks laid out as VGG: each layer up and down.

`steps` has each layer both ways, `deconvnet` the walk (chapters 2 and 3), and `guided` all maps
from one pass up (chapters 4 and 13), without autograd. `gradcam` has chapter 1, whose gradient is
autograd's. Whether a network is what its layers say: `self_check`.
"""
