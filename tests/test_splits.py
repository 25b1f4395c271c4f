"""Which image goes where: by class, by groups, by seed, and never out of test."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from zoo import ODD_NAMES, encoded, photo, save

from vggnb.census import Census, Manifest, Pair, Row, assign_splits, open_manifest, take_census
from vggnb.paths import SPLITS, open_workspace
from vggnb.recipe import Recipe
from vggnb.storage import VggnbError, sha256_bytes

CLASSES = ("ant", "bee", "cow")


def row(path: str, label: int, split: str = "train", **facts) -> Row:
    return Row(
        path, sha256_bytes(path.encode("utf-8", "surrogatepass")), 8, 8, "PNG", CLASSES[label], label, split, **facts
    )


def census(rows, pairs=()) -> Census:
    classes = CLASSES[: 1 + max(row.label for row in rows)]
    return Census(Path("/data"), classes, tuple(rows), pairs=tuple(Pair(a, b, "near", 3) for a, b in pairs))


def many(count: int, split: str = "train", labels=(0, 1), **facts) -> list[Row]:
    return [
        row(f"{split}/{CLASSES[label]}/{k:03}.png", label, split, **facts) for label in labels for k in range(count)
    ]


def split_of(manifest: Manifest) -> dict[str, str]:
    return {row.path: row.split for row in manifest.rows}


def test_validation_is_cut_from_train_by_class_and_test_stays_as_it_was():
    manifest = assign_splits(census(many(40) + many(10, "test")))
    assert manifest.counts() == {
        "train": {"ant": 32, "bee": 32}, "validation": {"ant": 8, "bee": 8}, "test": {"ant": 10, "bee": 10},
    }  # fmt: skip
    assert {r.path for r in manifest.of("test")} == {r.path for r in many(10, "test")}
    assert "Validation: 16 of 80 images were cut from train, by class, with seed 0; test is unchanged." in str(manifest)


@pytest.mark.parametrize(("rows", "options", "wanted"), [
    (many(50, "unsplit", (0, 1, 2)), {}, {"train": [32] * 3, "validation": [8] * 3, "test": [10] * 3}),
    (many(20) + many(5, "validation"), {}, {"train": [16, 16], "validation": [5, 5], "test": [4, 4]}),
    (many(100, labels=(0,)) + many(9, labels=(1,)) + many(3, "test"), {"validation_share": 0.3},
     {"train": [70, 6], "validation": [30, 3], "test": [3, 3]}),
    (many(3, "unsplit"), {"validation_share": 0.01, "test_share": 0.01}, dict.fromkeys(SPLITS, [1, 1])),
    (many(3, "unsplit"), {"validation_share": 0.99, "test_share": 0.99}, dict.fromkeys(SPLITS, [1, 1])),
])  # fmt: skip
def test_what_is_missing_is_cut_by_class_and_no_part_is_empty(rows, options, wanted):
    counts = assign_splits(census(rows), **options).counts()
    assert {split: list(part.values()) for split, part in counts.items()} == wanted


def test_complete_splits_are_taken_as_they_are():
    rows = many(5) + many(3, "validation") + many(2, "test")
    manifest = assign_splits(census(rows))
    assert manifest.rows == tuple(rows)
    assert manifest.sentences == ()


def test_the_split_depends_on_rows_and_seed_alone():
    rows = many(30, "unsplit")
    straight, backwards = assign_splits(census(rows), seed=5), assign_splits(census(rows[::-1]), seed=5)
    np.random.seed(0)
    elsewhere = assign_splits(replace(census(rows), dataset=Path("/elsewhere")), seed=5)
    assert split_of(straight) == split_of(backwards) == split_of(elsewhere)
    assert split_of(straight) != split_of(assign_splits(census(rows), seed=6))


@pytest.mark.parametrize("seed", range(3))
def test_near_duplicates_and_groups_stay_on_one_side(seed):
    rows = many(40, "unsplit")
    rows = [replace(r, group=f"patient {k // 3}") if k % 40 < 15 else r for k, r in enumerate(rows)]
    alike = [(rows[20], rows[21]), (rows[21], rows[22]), (rows[0], rows[25]), (rows[30], rows[70])]
    manifest = assign_splits(census(rows, alike), seed=seed)
    where = split_of(manifest)
    assert all(where[a.path] == where[b.path] for a, b in alike)
    for group in {r.group for r in rows if r.group}:
        assert len({where[r.path] for r in rows if r.group == group}) == 1
    counts = manifest.counts()
    assert all(5 <= n <= 8 for n in counts["test"].values()) and all(n >= 4 for n in counts["validation"].values())


def test_rows_that_stay_together_carry_one_group_name():
    rows = many(10)
    rows[3] = replace(rows[3], group="patient 1")
    manifest = assign_splits(census(rows + many(2, "test"), [(rows[0], rows[1]), (rows[3], rows[4])]))
    groups = {r.path: r.group for r in manifest.rows}
    assert groups[rows[0].path] == groups[rows[1].path] == rows[0].path
    assert groups[rows[3].path] == groups[rows[4].path] == "patient 1"
    assert groups[rows[9].path] == ""


def test_a_class_of_large_groups_only_still_gets_a_validation_part():
    rows = many(20, labels=(0,)) + [replace(r, group=f"g{k // 5}") for k, r in enumerate(many(20, labels=(1,)))]
    counts = assign_splits(census(rows + many(1, "test"))).counts()
    assert counts["validation"] == {"ant": 4, "bee": 5} and counts["train"]["bee"] == 15


@pytest.mark.parametrize(("rows", "pairs", "words"), [
    (many(2, "unsplit"), [], "test and validation from (near-duplicates and groups count once): ant 2, bee 2."),
    (many(9, labels=(0,)) + many(1, labels=(1,)) + many(1, "test"), [], "once): bee 1."),
    (many(9) + many(1, "test", (0, 1)), [(k, k + 1) for k in range(9, 17)], "once): bee 1."),
])  # fmt: skip
def test_a_class_too_small_to_cut_is_refused_by_name(rows, pairs, words):
    with pytest.raises(VggnbError) as caught:
        assign_splits(census(rows, [(rows[a], rows[b]) for a, b in pairs]))
    assert words in str(caught.value) and "Too few distinct images" in str(caught.value)


def test_shares_out_of_range_and_what_the_census_refuses_are_refused():
    for share in (0, 1, -0.1, 20):
        with pytest.raises(VggnbError, match="validation_share"):
            assign_splits(census(many(9)), validation_share=share)
    with pytest.raises(VggnbError, match="nothing to train on"):
        assign_splits(census(many(9, "test")))


def test_leaks_are_marked_in_the_later_split_and_kept():
    rows = many(3) + many(2, "validation") + many(2, "test")
    alike = [(rows[0], rows[6]), (rows[0], rows[10]), (rows[6], rows[10]), (rows[1], rows[2])]
    manifest = assign_splits(census(rows, alike))
    (marked,) = manifest.leaking("test")
    assert marked.notes == f"leak: also in train as {rows[0].path} and in validation as {rows[6].path}"
    assert manifest.leaking("validation")[0].notes == f"leak: also in train as {rows[0].path}"
    assert len(manifest.rows) == len(rows) and "Leaks: 2 images in an earlier split" in manifest.sentences[0]


def test_a_manifest_survives_writing_and_reading_whatever_the_names(tmp_path):
    names = [*ODD_NAMES, "bytes-\udce9.png", "carriage\rreturn.png", "cr\r\nlf.png", "nul-like \\0.png"]
    rows = [replace(row(f"ant/{name}", 0), notes='odd; "quoted"\nline') for name in names]
    rows.append(replace(row("y", 1), class_name='b"e,e'))
    manifest = Manifest(tmp_path / "da\ntä", ("ant", 'b"e,e'), tuple(rows), ("One \u202e sentence.",))
    manifest.write(tmp_path / "manifest.csv")
    assert Manifest.read(tmp_path / "manifest.csv") == manifest
    assert manifest.only(rows[1:]).rows == tuple(rows[1:]) and manifest.only(rows).classes == manifest.classes


def test_a_manifest_is_a_table_that_other_programs_can_read(tmp_path):
    assign_splits(census(many(10) + many(2, "test"))).write(tmp_path / "m.csv")
    lines = (tmp_path / "m.csv").read_text().split("\n")
    assert lines[0].startswith("# {") and '"classes": ["ant", "bee"]' in lines[0]
    assert lines[1] == "path,sha256,width,height,format,class,label,split,group,notes"
    assert len(lines) == 2 + 24 + 1


@pytest.mark.parametrize("damage", [
    lambda text: text[: len(text) // 2], lambda text: text.replace("ant,0,", "ant,1,", 1), lambda text: "",
    lambda text: text.split("\n", 1)[1], lambda text: text.replace('"ant", "bee"', '"bee", "ant"'),
    lambda text: text.replace('"vggnb_manifest": 3', '"vggnb_manifest": 2'),
])  # fmt: skip
def test_a_damaged_changed_or_missing_manifest_is_refused(tmp_path, damage):
    with pytest.raises(VggnbError, match="m.csv"):
        Manifest.read(tmp_path / "m.csv")
    assign_splits(census(many(10) + many(2, "test"))).write(tmp_path / "m.csv")
    before = (tmp_path / "m.csv").read_text()
    assert damage(before) != before
    (tmp_path / "m.csv").write_text(damage(before))
    with pytest.raises(VggnbError, match="Not a manifest that can be used"):
        Manifest.read(tmp_path / "m.csv")


@pytest.mark.parametrize("first", ["[" * 200_000, '{"vggnb_manifest": 3, "classes": [], "sha256": "%s"}'])
def test_a_manifest_without_end_or_rows_is_refused(tmp_path, first):
    (tmp_path / "m.csv").write_text(f"# {first.replace('%s', sha256_bytes(b''))}\n")
    with pytest.raises(VggnbError, match="Not a manifest that can be used"):
        Manifest.read(tmp_path / "m.csv")


def test_from_folder_to_manifest(tmp_path, monkeypatch):
    for name, first in (("ant", 0), ("bee", 100)):
        for k in range(10):
            save(tmp_path / "data" / name / f"{k}.png", photo(first + k))
        save(tmp_path / "data" / name / "copy.jpg", encoded(photo(first), "JPEG"))
    ws = open_workspace(dataset=tmp_path / "data")
    recipe = Recipe.best().with_(validation_share=0.5, seed=3)
    manifest, plain = open_manifest(ws, recipe), open_manifest(ws)
    assert len(manifest.of("validation")) == 8 and len(plain.of("validation")) == 4
    assert manifest == assign_splits(take_census(ws.dataset, progress=False), validation_share=0.5, seed=3)
    assert sum(len(manifest.of(split)) for split in SPLITS) == 22
    where = split_of(manifest)
    assert all(where[f"{name}/copy.jpg"] == where[f"{name}/0.png"] for name in ("ant", "bee"))
