"""Numbers about predictions, from numpy arrays alone: no TensorFlow, no images.

- `temperature`: temperature scaling
"""
