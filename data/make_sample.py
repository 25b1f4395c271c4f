"""Draw the sample data set: SYNTHETIC images that look a little like dermoscopy.

    python data/make_sample.py [--out DIR] [--seed N]

Nothing here comes from a patient. The two classes are two settings of the same drawing
program, loosely after the ABCD rule (Asymmetry, Border, Colour, Different structures).
The settings overlap on purpose, and some labels are wrong, so that no classifier can be
perfect. Why it is drawn like this: see README.md.
Shapes below: H, W = 240, 320 is the drawing canvas, twice the size of the saved image.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = (160, 120)  # saved image, width x height in pixels
W, H = 2 * SIZE[0], 2 * SIZE[1]  # canvas, drawn at twice that size so that edges are smooth
COUNTS = {"train": 110, "validation": 40, "test": 150}  # images per class
CLASSES = ("benign", "malignant")
# Distance between the classes in each trait, in standard deviations; 0 makes them the same.
SEPARATION = {"asymmetry": 0.7, "border": 0.9, "colour": 0.5, "structure": 2.2}
LABEL_NOISE = 0.03  # share of images that are drawn as the other class: wrong labels
SKIN_TONES = np.array(  # red, green, blue from very light to dark
    [[238, 204, 190], [226, 178, 158], [198, 148, 120], [156, 108, 82], [110, 76, 60]]
)
BROWN = np.array([0.58, 0.92, 1.15])  # how strongly brown pigment absorbs red, green, blue
RED = np.array([0.12, 0.75, 0.60])
PATCHES = {  # colours a lesion may have beside its brown, as shares of the skin's own
    "dark": (0.22, 0.14, 0.12),
    "tan": (0.82, 0.68, 0.54),
    "red": (0.80, 0.42, 0.42),
    "blue": (0.46, 0.55, 0.72),
    "white": (0.97, 0.97, 1.02),
}
YY, XX = np.mgrid[0:H, 0:W].astype(np.float32)


def smooth_noise(rng, cells):
    """Return (H, W) float32 noise, about -1..1, with `cells` soft bumps down the canvas."""
    grid = rng.normal(0, 0.6, (cells + 2, cells * 4 // 3 + 2)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((W, H), Image.Resampling.BICUBIC))


def soft_step(x, edge, width):
    """Return 0..1 values that rise smoothly where `x` passes `edge`, over about `width`."""
    return 1 / (1 + np.exp(-np.clip((x - edge) / width, -30, 30)))


def blend(image, colour, amount):
    """Mix a colour (3,) into an image (H, W, 3) by an (H, W) amount in 0..1."""
    return image + amount[..., None] * (np.asarray(colour) - image)


def absorb(image, density, spectrum):
    """Darken an image (H, W, 3) as a pigment of (H, W) density and (3,) spectrum would."""
    return image * np.exp(-density[..., None] * spectrum)


def cell_pattern(rng, pitch, jitter):
    """Return two (H, W) maps of a honeycomb: distance to cell centre, distance to cell wall."""
    turn = rng.uniform(0, np.pi)
    bends = [0.7 * smooth_noise(rng, 5) + 0.2 * smooth_noise(rng, 16) for _ in range(2)]
    x = (np.cos(turn) * XX - np.sin(turn) * YY) / pitch + bends[0]
    y = (np.sin(turn) * XX + np.cos(turn) * YY) / pitch + bends[1]
    x, y = x - x.min() + 1, y - y.min() + 1
    col, row = x.astype(int), y.astype(int)
    shape = (row.max() + 2, col.max() + 2)
    px = 0.25 + 0.5 * (np.arange(shape[0]) % 2)[:, None] + rng.uniform(-jitter, jitter, shape)
    py = 0.5 + rng.uniform(-jitter, jitter, shape)
    near, second = np.full((2, H, W), 9.0)
    for dr in (-1, 0, 1):
        for dc in (-1, 0, 1):
            r, c = row + dr, col + dc
            distance = np.hypot(c + px[r, c] - x, r + py[r, c] - y)
            second = np.minimum(second, np.maximum(near, distance))
            near = np.minimum(near, distance)
    return near, second - near


def draw_scores(rng, malignant):
    """Return four numbers in 0..1: how suspicious asymmetry, border, colour, structure look."""
    centre = np.array(list(SEPARATION.values())) * (0.5 if malignant else -0.5)
    z = centre + 0.5 * rng.normal() + 0.87 * rng.normal(size=4)
    return 1 / (1 + np.exp(-1.5 * z))


def draw_skin(rng):
    """Return an (H, W, 3) float image in 0..1 of bare skin, from very light to dark."""
    tone = rng.uniform(0, len(SKIN_TONES) - 1.001)
    low = int(tone)
    colour = SKIN_TONES[low] + (tone - low) * (SKIN_TONES[low + 1] - SKIN_TONES[low])
    colour = colour / 255 + rng.normal(0, 0.012, 3)
    skin = np.ones((H, W, 1)) * colour
    skin = absorb(skin, 0.08 * smooth_noise(rng, 3) + 0.04 * smooth_noise(rng, 9), RED)
    skin = absorb(skin, 0.05 * smooth_noise(rng, 5), BROWN)
    # Furrows and freckles look like the lesion's own structure, even or uneven, in either class:
    # what tells the classes apart is where in the image such a texture is.
    near, wall = cell_pattern(rng, rng.uniform(12, 24), rng.uniform(0.15, 0.48))
    skin = absorb(skin, rng.uniform(0.03, 0.16) * (1 - soft_step(wall, 0.18, 0.07)), BROWN)
    freckles = (1 - soft_step(near, 0.3, 0.08)) * soft_step(smooth_noise(rng, 5), rng.uniform(0, 1), 0.15)
    return absorb(skin, rng.choice([0, 0.35]) * freckles, BROWN)


def lesion_shape(rng, asymmetry, border):
    """Return three (H, W) maps: 0..1 lesion mask, distance (1 = outline), angle in radians."""
    x = XX - W * rng.uniform(0.40, 0.60)
    y = YY - H * rng.uniform(0.42, 0.58)
    turn, aspect = rng.uniform(0, 2 * np.pi), rng.uniform(0.70, 1.0)
    x, y = np.cos(turn) * x + np.sin(turn) * y, (np.cos(turn) * y - np.sin(turn) * x) / aspect
    angle = np.arctan2(y, x)
    outline = np.ones((H, W))
    for k in range(1, 8):
        size = (0.015 + 0.20 * asymmetry**1.5) * rng.normal() / k**0.8
        outline += size * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    radius = rng.uniform(58, 98) * np.maximum(outline, 0.35)
    ragged = 0.05 * smooth_noise(rng, 6) + 0.10 * border * smooth_noise(rng, 18)
    ragged += 0.05 * border * smooth_noise(rng, 45)
    distance = np.hypot(x, y) / radius + ragged
    width = (0.12 - 0.085 * border) * np.exp(0.5 * smooth_noise(rng, 2))
    return 1 - soft_step(distance, 1, width), distance, angle


def add_pigment(rng, skin, mask, distance, structure):
    """Lay the main brown of the lesion on the skin; uneven when `structure` is high."""
    uneven = (0.08 + 0.30 * structure) * smooth_noise(rng, 4) + 0.10 * smooth_noise(rng, 14)
    centre_dark = rng.uniform(0, 0.45) * (1 - structure) * (1 - np.clip(distance, 0, 1.5))
    density = rng.uniform(0.45, 1.15) * mask * np.clip(1 + uneven + centre_dark, 0.1, 2)
    skin = absorb(skin, rng.uniform(0, 0.25) * mask, RED)
    return absorb(skin, density, BROWN * rng.uniform(0.9, 1.1, 3))


def add_colours(rng, image, mask, colour):
    """Add patches of further colours: few and faint if `colour` is low, many if high."""
    skin = np.percentile(image, 90, axis=(0, 1))
    for name in rng.permutation(list(PATCHES)):
        field = smooth_noise(rng, 4) + 0.3 * smooth_noise(rng, 9)
        amount = rng.uniform(0.35, 0.75) * (0.25 + 0.75 * colour)
        patch = mask * amount * soft_step(field, rng.uniform(0.2, 0.5), 0.14)
        chance = 0.15 + 0.75 * (0.5 if name in ("dark", "tan") else colour)
        if rng.random() < chance:
            image = blend(image, skin * PATCHES[name], patch)
    return image


def add_structure(rng, image, mask, distance, angle, structure):
    """Add a pigment network or dots, and streaks and blotches when `structure` is high."""
    near, wall = cell_pattern(rng, rng.uniform(14, 22), 0.12 + 0.36 * structure)
    patchy = soft_step(smooth_noise(rng, 4), 1.2 * structure - 1.0, 0.15)
    kind = rng.choice(["network", "dots", "plain"], p=[0.5, 0.4, 0.1])
    if kind == "network":
        thick = 0.20 * np.exp((0.25 + 0.8 * structure) * smooth_noise(rng, 7))
        lines = 1 - soft_step(wall, thick, 0.09)
        image = absorb(image, rng.uniform(0.25, 0.50) * lines * patchy * mask, BROWN)
    elif kind == "dots":
        size = 0.24 * np.exp((0.3 + 0.9 * structure) * smooth_noise(rng, 9))
        dots = 1 - soft_step(near, size, 0.06)
        image = absorb(image, rng.uniform(0.4, 0.8) * dots * patchy * mask, BROWN)
    bent = angle + 0.12 * smooth_noise(rng, 5) + 0.05 * smooth_noise(rng, 16)
    rays = sum(np.cos(k * bent + rng.uniform(0, 2 * np.pi)) for k in rng.integers(22, 48, 4))
    sector = soft_step(np.cos(angle - rng.uniform(0, 2 * np.pi)), 0.1, 0.2)
    reach = 0.96 + 0.06 * smooth_noise(rng, 10)
    rim = np.exp(-(((distance - reach) / 0.14) ** 2)) * sector
    streaks = soft_step(rays, 1.0, 0.4) * rim * max(0, structure - 0.35)
    image = absorb(image, 1.1 * streaks, BROWN)
    field = smooth_noise(rng, 6) + 0.3 * smooth_noise(rng, 20)
    blotches = soft_step(field, 0.65, 0.09) * mask * max(0, structure - 0.35)
    return absorb(image, 1.2 * blotches, BROWN)


def stroke_layer(strokes, blur):
    """Return an (H, W) map in 0..1 with polylines drawn on it: [(points, width), ...]."""
    layer = Image.new("L", (W, H))
    pen = ImageDraw.Draw(layer)
    for points, width in strokes:
        pen.line(points, fill=255, width=width, joint="curve")
    return np.asarray(layer.filter(ImageFilter.GaussianBlur(blur))) / 255


def add_hairs(rng, image):
    """Draw 2 to 9 dark curved hairs over the image (H, W, 3)."""
    t = np.linspace(0, 1, 30)[:, None]
    strokes, lean = [], rng.uniform(0, np.pi)
    for _ in range(rng.integers(2, 10)):
        way = lean + rng.normal(0, 0.5)
        middle = rng.uniform((0, 0), (W, H))
        half = rng.uniform(50, 210) * np.array([np.cos(way), np.sin(way)])
        bow = middle + rng.normal(0, 36, 2)
        curve = (1 - t) ** 2 * (middle - half) + 2 * t * (1 - t) * bow + t**2 * (middle + half)
        strokes.append(([tuple(p) for p in curve], int(rng.integers(1, 4))))
    hair = stroke_layer(strokes, 0.7)
    return blend(image, rng.uniform(0.06, 0.22) * np.array([1.2, 0.9, 0.75]), 0.9 * hair)


def add_ruler(rng, image):
    """Draw millimetre marks along one edge of the image (H, W, 3)."""
    pitch, start, below = rng.uniform(11, 19), rng.uniform(0, 20), rng.random() < 0.5
    strokes = []
    for i, x in enumerate(np.arange(start, W, pitch)):
        length = 27 if i % 5 == 0 else 16
        strokes.append(([(x, H if below else 0), (x, H - length if below else length)], 2))
    return blend(image, [0.10, 0.10, 0.12], 0.8 * stroke_layer(strokes, 0.6))


def add_bubbles(rng, image):
    """Draw 1 to 6 air bubbles of the contact fluid: faint rings with a bright glint."""
    for _ in range(rng.integers(1, 6)):
        cx, cy, radius = rng.uniform(0, W), rng.uniform(0, H), rng.uniform(3, 18)
        r = np.hypot(XX - cx, YY - cy) / radius
        lit = 0.5 + 0.5 * np.cos(np.arctan2(YY - cy, XX - cx) - rng.uniform(0, 2 * np.pi))
        image = blend(image, [1, 1, 1], 0.35 * np.exp(-(((r - 1) * radius / 1.6) ** 2)) * lit)
        glint = np.hypot(XX - cx + 0.4 * radius, YY - cy + 0.4 * radius) / (0.12 * radius + 1)
        image = blend(image, [1, 1, 1], rng.uniform(0.3, 0.9) * np.exp(-(glint**2)))
    return image


def add_lighting(rng, image):
    """Apply a lighting gradient, and in some images the dark corners of a round lens."""
    way = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(way) * (XX / W - 0.5) + np.sin(way) * (YY / H - 0.5)) * rng.uniform(0, 0.3)
    image = image * (rng.uniform(0.92, 1.06) + slope)[..., None]
    r = np.hypot(XX - W / 2 + rng.normal(0, 6), YY - H / 2 + rng.normal(0, 6))
    image = image * (1 - rng.uniform(0, 0.25) * (r / 200) ** 2)[..., None]
    if rng.random() < 0.3:
        image = blend(image, [0.03, 0.03, 0.035], soft_step(r, rng.uniform(152, 180), 3))
    return image


def draw_image(rng, malignant):
    """Return one finished image of SIZE."""
    asymmetry, border, colour, structure = draw_scores(rng, malignant)
    image = draw_skin(rng)
    mask, distance, angle = lesion_shape(rng, asymmetry, border)
    image = add_pigment(rng, image, mask, distance, structure)
    image = add_colours(rng, image, mask, colour)
    image = add_structure(rng, image, mask, distance, angle, structure)
    for add, chance in ((add_hairs, 0.35), (add_bubbles, 0.35), (add_ruler, 0.15)):
        if rng.random() < chance:
            image = add(rng, image)
    image = add_lighting(rng, image)
    image = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.5)))
    pixels = np.asarray(image.resize(SIZE, Image.Resampling.LANCZOS)).astype(float)
    pixels += rng.normal(0, rng.uniform(1.0, 3.0), pixels.shape)  # sensor noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def main():
    """Read the options and write the data set, replacing an earlier one in the same folder."""
    parser = argparse.ArgumentParser(description="Draw the SYNTHETIC sample data set.")
    default = Path(__file__).resolve().parent / "sample"
    parser.add_argument("--out", type=Path, default=default, help="folder to write to")
    parser.add_argument("--seed", type=int, default=2024, help="another seed, other images")
    args = parser.parse_args()
    jobs = [(s, c) for s, count in COUNTS.items() for c in CLASSES for _ in range(count)]
    for split, name in set(jobs):
        (args.out / split / name).mkdir(parents=True, exist_ok=True)
        for old in (args.out / split / name).glob("sample_????.jpg"):
            old.unlink()  # another seed spreads the numbers over other folders
    numbers = np.random.default_rng(args.seed).permutation(len(jobs)) + 1  # names hide the class
    for number, (split, name) in zip(numbers, jobs, strict=True):
        rng = np.random.default_rng([args.seed, number])
        wrong = rng.random() < LABEL_NOISE
        image = draw_image(rng, malignant=(name == "malignant") != wrong)
        image.save(args.out / split / name / f"sample_{number:04d}.jpg", quality=85)
    print(f"{len(jobs)} synthetic images written to {args.out}")


if __name__ == "__main__":
    main()
