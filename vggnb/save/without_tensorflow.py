"""A complete program, `python without_tensorflow.py BUNDLE IMAGE...`: numpy, Pillow and onnxruntime are enough."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

bundle = Path(sys.argv[1])
facts = json.loads((bundle / "bundle.json").read_text("utf-8"))
size, resize = facts["recipe"]["image_size"], facts["recipe"]["resize"]
session = onnxruntime.InferenceSession(next(bundle.glob("*.onnx")))
for path in sys.argv[2:]:
    image = Image.open(path)
    if resize == "bilinear":
        image.draft(None, (2 * size, 2 * size))
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB").resize((size, size), Image.Resampling[resize.upper()])
    probabilities = session.run(None, {"raw_rgb": np.asarray(image, np.float32)[None]})[0][0]
    print(json.dumps({"path": path, **dict(zip(facts["classes"], map(float, probabilities), strict=True))}))
