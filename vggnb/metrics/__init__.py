"""Numbers about predictions, from numpy arrays alone: no TensorFlow, no images.

- `ood`: out-of-distribution images
- `temperature`: temperature scaling
"""
