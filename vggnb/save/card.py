"""The model card: what others must know before using the model, for programs (JSON) and for people (Markdown).

After Mitchell et al. 2019 (doi 10.1145/3287560.3287596).
"""

import html
import re
from datetime import date
from pathlib import Path

import jinja2

from vggnb.folders import counted, shown
from vggnb.images import DECODER_VERSION
from vggnb.machine import versions
from vggnb.paths import SPLITS
from vggnb.save.bundle import purpose_of
from vggnb.storage import VggnbError, read_json, sha256_bytes, sha256_file
from vggnb.train import Run

LIMITS = "Valid only for images like those it was trained on, taken the same way, of the same classes."
TUNING = ("from_block", "epochs", "learning_rate", "augment", "precision", "fitted_on")
REPORT_KEYS = {"n", "metrics", "baselines", "positive", "threshold", "prevalence", "limits"}  # that are needed here


def build_card(run: Run, name: str) -> dict:
    """The card of a run, plain values for JSON; its results are the reports that are in the run's folder."""
    paths = {split: run.folder / f"report-{split}.json" for split in SPLITS}
    reports = {split: read_json(path) for split, path in paths.items() if path.is_file()}
    for split, report in reports.items():
        if not isinstance(report, dict) or not REPORT_KEYS <= report.keys():
            raise VggnbError("This file is not a report.", paths[split], "Remove it and evaluate the run again.")
    tuned = run.fine_tuned()
    words = f"fine-tuned from {tuned['from_block']} on" if tuned else "frozen"
    rows = sorted((row.sha256, row.split, row.label) for row in run.manifest.rows)
    return {
        "name": name,
        "made": date.today().isoformat(),
        "purpose": purpose_of(run.manifest.dataset.name, name, *run.classes),
        "network": f"VGG-16 (Simonyan and Zisserman 2014), {words}, with a head trained on the images below",
        "weights": run.source.sentence,
        "classes": list(run.classes),
        "images": run.manifest.counts(),
        "data": {
            "sha256": sha256_bytes(repr(rows).encode()),  # of every image's hash, split and label, in order
            "manifest_sha256": sha256_file(run.folder / "manifest.csv"),
            "splits": [*run.manifest.sentences, *run.fit_sentences()],
        },
        "recipe": run.recipe.to_dict(),
        "precision": run.source.precision,
        "seed": run.recipe.seed,
        "model_sha256": run.model_sha256(),
        "training": {key: run.training().get(key) for key in ("timing", "left_out", "choice")},
        "fine_tune": tuned and {key: tuned[key] for key in TUNING},
        "calibration": vars(run.calibration()),
        "results": reports,
        "versions": {**versions(), "decoder": DECODER_VERSION},
        "limits": [LIMITS, *(sentence for report in reports.values() for sentence in report["limits"])],
    }


def card_markdown(card: dict) -> str:
    """The card for people; names are escaped, so that none can become a link, an image or a tag."""
    facts = dict(card["recipe"])
    if card["training"]["choice"]:
        facts["ridge"] = f"{card['training']['choice']['ridge']}, chosen from {facts['ridge']}"
    facts |= {f"fine-tuning: {name}": value for name, value in (card["fine_tune"] or {}).items()}
    facts |= {"temperature": card["calibration"]["temperature"], **card["versions"]}
    text = Path(__file__).with_suffix(".md").read_text("utf-8")
    markdown = jinja2.Environment(trim_blocks=True, finalize=plain, keep_trailing_newline=True).from_string(text)
    return markdown.render(card=card, facts=facts, counted=counted)


def plain(value: object) -> str:
    """A value as Markdown that shows exactly this text."""
    return re.sub(r"([\\`*_{}\[\]()#+!|$~])", r"\\\1", html.escape(shown(str(value)), quote=False))
