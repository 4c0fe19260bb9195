"""From labelled faces to a model folder: data, network, training, evaluation, export.

The only package that may import TensorFlow, and the only one besides `workers` that sees
`workers.vision`: what is measured here is cropped and run exactly as it is served.
"""
