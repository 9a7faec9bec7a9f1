"""What a reader steps through and plays with; ``import helpers`` imports none of it.

Import the modules by name: `stepper` (one layer at a time), `explorer` (one photo, any question),
`panels` and `player` (both on a page without a kernel), `widgets` (both in a notebook, by
ipywidgets), `cli` (the command line `explain`), `export` (the whole explanation as one ONNX graph,
by onnx and onnxscript).
"""
