"""Retrain VGG-16 on your own folder of images, one small module per step.

The images walk through the modules from left to right, and a module imports only from its left: CONTRIBUTING.md has the
map. A step that does not fit one page is a folder whose `__init__` says what lies where.
`import vggnb` alone imports nothing heavy: name the module you need, as in `from vggnb.recipe import Recipe`.
"""

__version__ = "0.2.0"
