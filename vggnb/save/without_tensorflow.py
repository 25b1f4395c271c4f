"""A complete program, `python without_tensorflow.py BUNDLE PHOTO...`: numpy, Pillow and onnxruntime are enough."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

bundle, *photos = map(Path, sys.argv[1:])
classes = json.loads((bundle / "labels.json").read_text("utf-8"))
recipe = json.loads((bundle / "recipe.json").read_text("utf-8"))["recipe"]
size, resize = recipe["image_size"], recipe["resize"]
if not (models := list(bundle.glob("*.onnx"))):
    sys.exit(f"{bundle} holds no .onnx file: save the run again, with the format onnx.")
session = onnxruntime.InferenceSession(models[0])
for photo in photos:
    try:
        image = Image.open(photo)
        if resize == "bilinear":
            image.draft(None, (2 * size, 2 * size))
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            raise ValueError("floating-point pixels without a stated range")
        if image.mode.startswith("I"):
            image = Image.fromarray(np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8))
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        image = image.convert("RGB").resize((size, size), Image.Resampling[resize.upper()])
        said, _ = session.run(None, {"raw_rgb": np.asarray(image, np.float32)[None]})
        answer = dict(zip(classes, map(float, said[0]), strict=True))
    except Exception as error:  # a bad photo has its line, too
        answer = {"error": str(error)}
    print(json.dumps({**answer, "path": str(photo)}))
