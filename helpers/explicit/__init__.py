"""The explicit way, for networks laid out as VGG: each layer up and down, and no autograd.

`steps` has each layer both ways, `deconvnet` the walk (chapters 2 and 3), `gradcam` chapter 1, and
`guided` all maps from one pass up (chapters 4 and 13). Whether a network is what its layers say:
`self_check`.
"""
