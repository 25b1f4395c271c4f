"""Retrain VGG-16 on your own folder of images, one small module per step.

The images walk through the modules from left to right, and a module imports only from its left:

    storage images recipe | paths -> layout -> twins -> census -> generators -> model -> features
        -> train -> evaluate -> save -> predict | figures explain widgets | cli

`import vggnb` alone imports nothing heavy: name the module you need, as in `from vggnb.recipe import Recipe`.
"""

__version__ = "0.1.0"
