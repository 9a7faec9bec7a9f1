"""The way by autograd, for any network.

`any_network` has the maps of the explicit way (chapter 14), with `signal_path`, which reads
autograd's graph, and `feature_maps`, which finds the layers. More maps, for chapter 10: `cams` and
`mean_gradients`.
"""
