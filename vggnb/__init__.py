"""Retrain VGG-16 on your own folder of images, one small module per step.

The images pass through the modules from left to right, and a module imports only from its left: see the map in
CONTRIBUTING.md. A step that is too long for one file is a folder whose `__init__` lists its modules.
`import vggnb` alone imports nothing heavy: import the module you need, as in `from vggnb.recipe import Recipe`.
"""

__version__ = "0.2.0"
