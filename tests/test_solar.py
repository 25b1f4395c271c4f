"""The table of solar cells: from the installed files, the same for the same seed, stratified, nothing imported."""

import csv
import importlib.metadata
from collections import Counter

import numpy as np
import pytest

from vggnb import datasets, solar
from vggnb.paths import open_workspace
from vggnb.storage import VggnbError

STATED = {"0.0": 40, "0.3333333333333333": 12, "0.6666666666666666": 12, "1.0": 24}


@pytest.fixture
def package(tmp_path, monkeypatch, draw):
    """An installed package of the same shape with images of our own."""
    site = tmp_path / "site"
    images, info = site / "elpv_dataset" / "data" / "images", site / "elpv_dataset-1.0.0.dist-info"
    images.mkdir(parents=True)
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elpv-dataset\nVersion: 1.0.0\n")
    (info / "RECORD").write_text("elpv_dataset/__init__.py,,\nelpv_dataset/data/labels.csv,,\n")
    (site / "elpv_dataset" / "__init__.py").write_text("raise ImportError('it is not to be imported')")
    lines = []
    for number, stated in enumerate(stated for stated, count in STATED.items() for _ in range(count)):
        name = f"images/cell{number:04d}.png"
        draw(np.random.default_rng(number), stated > "0.5", size=(30, 30)).save(images.parent / name)
        lines.append(f"{name}  {stated:<18}  {'poly' if number % 2 else 'mono'}\n")
    (images.parent / "labels.csv").write_text("".join(lines))
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(importlib.metadata, "files", lambda name: importlib.metadata.Distribution.at(info).files)
    return images


def rows(table):
    with open(table, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_stratified_and_the_same_for_the_same_seed(package, tmp_path, capsys):
    table = datasets.solar_cells(tmp_path / "cells")
    assert "CC BY-NC-SA 4.0" in (printed := capsys.readouterr().out) and "10.1016/j.solener.2019.02.067" in printed
    found = rows(table)
    assert Counter(row["label"] for row in found) == {"functional": 52, "defective": 36}
    assert {row["path"] for row in found} == {str(path) for path in package.iterdir()}
    lines = (line.split() for line in (package.parent / "labels.csv").read_text().splitlines())
    strata = {str(package.parent / path): (stated, kind) for path, stated, kind in lines}
    test = Counter(strata[row["path"]] for row in found if row["split"] == "test")
    assert all(abs(test[key] - count / 4) < 1 for key, count in Counter(strata.values()).items()) and test.total() == 22
    assert rows(datasets.solar_cells(tmp_path / "again")) == found
    assert rows(datasets.solar_cells(tmp_path / "other", seed=1)) != found


def test_a_part_keeps_the_shares(package, tmp_path):
    found = rows(datasets.solar_cells(tmp_path / "cells", most=44))
    assert Counter(row["label"] for row in found) == {"functional": 26, "defective": 18}
    assert {row["path"] for row in found} < {str(path) for path in package.iterdir()}
    assert rows(datasets.solar_cells(tmp_path / "again", most=44)) == found
    assert len(rows(datasets.solar_cells(tmp_path / "all", most=5000))) == 88
    for most in (-1, 5, 12, 84):
        with pytest.raises(VggnbError, match=f"{most} images cannot be drawn"):
            datasets.solar_cells(tmp_path / "few", most=most)


def test_full_results_stand_beside_the_published_ones():
    one = {"accuracy": 0.8, "auc": 0.9, "accuracy_without_leaks": 0.79, "auc_without_leaks": 0.89, "seconds": 60.4}
    document = {"seeds": [0, 1, 2], "recipes": {"best": one}, "image_size": 224, "machine": "a GPU", "date": "today"}
    results = solar.full_results(document)
    for words in ("best", "0.800", "0.900", "0.790", "60 s", "SVM", "0.824", "0.884", "3 random splits, 224 pixels"):
        assert words in str(results) and words in results._repr_html_()
    assert "was not run" in str(solar.full_results({})) and "0.884" in str(solar.full_results({}))
    assert "0.884" in str(solar.full_results()), "the committed results can be read"


def test_it_is_a_dataset_by_its_name(package, tmp_path, monkeypatch):
    workspace = open_workspace(dataset="solar-cells")
    assert workspace.dataset == workspace.home / "solar-cells" / "solar-cells.csv"
    assert workspace.runs.name == "solar-cells"
    monkeypatch.setenv("VGGNB_DATASET", "solar-cells")
    assert open_workspace().dataset == workspace.dataset
    (tmp_path / "here" / "solar-cells").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert open_workspace(dataset="solar-cells").dataset == tmp_path / "here" / "solar-cells"


def test_what_is_missing_is_said_with_what_to_install(package, tmp_path, monkeypatch):
    (package.parent / "labels.csv").write_text("images/cell0000.png 1.0")
    with pytest.raises(VggnbError, match=r"(?s)incomplete.*vggnb\[solar\]"):
        datasets.solar_cells(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(solar, "PACKAGE", "no-such-package")
    with pytest.raises(VggnbError, match=r"(?s)needs the package no-such-package.*pip install"):
        datasets.solar_cells(tmp_path)
