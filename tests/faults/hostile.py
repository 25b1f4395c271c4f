"""Bundles that someone made to do harm, or that harm was done to; and a program that tries to open all of them.

    python -m faults.hostile FOLDER

prints one JSON document: for each case, verified and then loaded, what the refusal said, what had happened by then, and
what it cost. Whoever made these knew how checksums work: except where damage is the case, all of them are right.
"""

import base64
import functools
import json
import marshal
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import time
import traceback
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from small_bundle import NAME, RECIPE, save_small, seal, small_model, small_vgg

WEIGHTS, KERAS, H5, JSON = (f"{NAME}{ending}" for ending in (".weights.h5", ".keras", ".h5", ".json"))
CASES = {}  # name -> how to make it of a good bundle
CANARY = "harm was done"


def case(make):
    """Put a case on the list."""
    CASES[make.__name__] = make
    return make


# Architectures


def in_config(file, change):
    """A case: the architecture in this file, changed by `change(config)`; then all checksums are made right."""

    def make(folder):
        path = folder / file
        if file == KERAS:
            found = members(folder)
            write_zip(path, found | {"config.json": changed(found["config.json"], change)})
        elif file == H5:
            import h5py

            with h5py.File(path, "r+") as opened:
                opened.attrs["model_config"] = changed(opened.attrs["model_config"].encode(), change)
        else:
            path.write_bytes(changed(path.read_bytes(), change))
        seal(folder)

    return make


def changed(data, change):
    config = json.loads(data)
    return json.dumps(change(config) or config).encode()


def write_zip(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, data)


def layer(config, kind):
    return next(one for one in config["config"]["layers"] if one["class_name"] == kind)


def replaced(kind, **new):
    """A change: the first layer of this kind is something else."""
    return lambda config: layer(config, kind).update(new)


def told(kind, **choices):
    """A change: the first layer of this kind is told something else."""
    return lambda config: layer(config, kind)["config"].update(choices)


def code():
    """A function that does harm, as Keras keeps a Lambda layer's."""

    def harm(x):
        __import__("pathlib").Path("harm was done").write_text("")
        return x

    return base64.b64encode(marshal.dumps(harm.__code__)).decode()


LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "registered_name": None,
    "config": {
        "name": "block1_pool",
        "function": {"class_name": "__lambda__", "config": {"code": code(), "defaults": None, "closure": None}},
        "arguments": {},
    },
}
POLICY = {"module": "keras.config", "class_name": "function", "config": "set_dtype_policy", "registered_name": None}
UNSAFE = {**POLICY, "config": "enable_unsafe_deserialization"}
SWITCH = {"module": "keras.src.ops.core", "class_name": "Switch", "registered_name": None, "config": {"name": "switch"}}
TEXT = {"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}
OUTSIDE = {"module": "evil", "class_name": "Evil", "registered_name": "evil>Evil", "config": {}}
PICKLED = {"class_name": "TorchModuleWrapper", "config": {"module": base64.b64encode(b"cos\nsystem\n").decode()}}
HUGE = {"class_name": "__numpy__", "config": {"value": [[0]], "dtype": "object"}}


def many_layers(config):
    config["config"]["layers"] += [layer(config, "MaxPooling2D")] * 900


def many_inputs(config):
    args = layer(config, "Concatenate")["inbound_nodes"][0]["args"]
    args[0] = args[0] * 200


def nested(config):
    config["config"]["layers"][3] = json.loads(json.dumps(config))


CONFIGS = {
    "lambda_in_keras": (KERAS, replaced("MaxPooling2D", **LAMBDA)),
    "lambda_in_h5": (H5, replaced("MaxPooling2D", **LAMBDA)),
    "lambda_in_json": (JSON, replaced("MaxPooling2D", **LAMBDA)),
    "custom_object_with_code": (KERAS, replaced("MaxPooling2D", **OUTSIDE)),
    "saved_model_as_a_layer": (KERAS, replaced("MaxPooling2D", class_name="TFSMLayer", config={"filepath": "/tmp/x"})),
    "layer_that_reads_a_file": (H5, replaced("MaxPooling2D", **TEXT)),
    "layer_with_a_pickle": (JSON, replaced("MaxPooling2D", **PICKLED)),
    "function_by_dotted_path": (KERAS, told("Conv2D", activation=POLICY)),
    "function_by_name": (H5, told("Conv2D", activation="set_random_seed")),
    "function_as_initializer": (JSON, told("Dense", kernel_initializer=POLICY)),
    "operation_that_sets_the_policy": (KERAS, replaced("MaxPooling2D", **SWITCH)),
    "object_under_seed": (
        JSON,
        told("Dense", kernel_initializer={"class_name": "GlorotUniform", "config": {"seed": OUTSIDE}}),
    ),
    "safe_mode_switched_off": (KERAS, told("Dense", bias_initializer=UNSAFE)),
    "half_precision_policy": (
        KERAS,
        lambda config: layer(config, "Dense")["config"]["dtype"]["config"].update(name="mixed_float16"),
    ),
    "half_precision_input": (JSON, told("InputLayer", dtype="float16")),
    "quantized": (KERAS, told("Dense", quantization_config={"class_name": "Int8QuantizationConfig", "config": {}})),
    "huge_adapter": (KERAS, told("Dense", lora_rank=500)),
    "huge_layer": (H5, told("Dense", units=10**9)),
    "huge_kernel": (JSON, told("Conv2D", kernel_size=[500, 500])),
    "huge_build_shape": (KERAS, replaced("Dense", build_config={"input_shape": [None, 10**9]})),
    "huge_floating_size": (KERAS, told("Dense", units=1e300)),
    "huge_picture": (JSON, told("InputLayer", batch_shape=[None, 512, 512, 3])),
    "numbers_in_the_architecture": (KERAS, told("Normalization", mean=HUGE)),
    "many_layers": (JSON, many_layers),
    "many_inputs": (KERAS, many_inputs),
    "network_in_a_network": (JSON, nested),
    "no_layers": (JSON, lambda config: {"class_name": "Functional", "config": {"layers": {}}}),
    "no_architecture": (KERAS, lambda config: [1, 2, 3]),
}
for name, (file, change) in CONFIGS.items():
    CASES[name] = in_config(file, change)


def as_file(file, data):
    """A case: this file holds something else altogether."""

    def make(folder):
        (folder / file).write_bytes(data)
        seal(folder)

    return make


class Harm:
    def __reduce__(self):
        return os.system, (f"touch '{CANARY}'",)


DEEP = b"[" * 200_000 + b"]" * 200_000
FILES = {
    "deep_architecture": (JSON, DEEP),
    "oversized_architecture": (JSON, b'{"class_name": "Functional", "config": {"x": "' + b" " * 3_000_000 + b'"}}'),
    "architecture_in_utf_16": (JSON, '{"class_name": "Functional"}'.encode("utf-16")),
    "architecture_with_a_name_twice": (JSON, b'{"class_name": "Functional", "class_name": "Functional"}'),
    "empty_architecture": (JSON, b""),
    "pickle_for_weights": (WEIGHTS, pickle.dumps(Harm())),
    "text_for_weights": (WEIGHTS, b"<html>404</html>"),
    "empty_weights": (WEIGHTS, b""),
    "numpy_for_weights": (WEIGHTS, b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
    "no_zip": (KERAS, b"PK\x03\x04" + bytes(200)),
    "empty_h5": (H5, b""),
    "labels_in_utf_16": ("labels.json", '["cat", "dog"]'.encode("utf-16")),
    "labels_no_json": ("labels.json", b"cat, dog"),
    "labels_empty": ("labels.json", b""),
    "labels_a_number": ("labels.json", b"2"),
    "labels_of_numbers": ("labels.json", b"[0, 1]"),
    "labels_deep": ("labels.json", DEEP),
    "labels_oversized": ("labels.json", json.dumps(["cat", "d" * 2_000_000]).encode()),
    "labels_in_another_order": ("labels.json", b'["dog", "cat"]'),
    "labels_others": ("labels.json", b'["cat", "owl"]'),
    "recipe_no_json": ("recipe.json", b"image_size = 32"),
    "recipe_a_list": ("recipe.json", b"[]"),
    "recipe_without_choices": ("recipe.json", b'{"recipe": {}}'),
    "recipe_with_a_name_twice": ("recipe.json", b'{"recipe": {}, "recipe": {}}'),
}
for name, (file, data) in FILES.items():
    CASES[name] = as_file(file, data)


# Keras's own format


def members(folder):
    with zipfile.ZipFile(folder / KERAS) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


@case
def zip_bomb(folder):
    bomb = members(folder) | {"config.json": b"[" + b" " * 100_000_000 + b"]"}
    write_zip(folder / KERAS, bomb, compression=zipfile.ZIP_DEFLATED)
    seal(folder)


@case
def zip_that_says_it_is_small(folder):
    write_zip(folder / KERAS, members(folder) | {"config.json": b" " * 50_000_000}, compression=zipfile.ZIP_DEFLATED)
    data = bytearray((folder / KERAS).read_bytes())
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.find(mark)
        while at >= 0 and b"config.json" not in data[at : at + 64]:
            at = data.find(mark, at + 1)
        data[at + place : at + place + 4] = struct.pack("<I", 100)
    (folder / KERAS).write_bytes(data)
    seal(folder)


@case
def zip_with_a_way_out(folder):
    write_zip(folder / KERAS, members(folder) | {f"../{CANARY}": b"x"})
    seal(folder)


@case
def zip_with_a_pickle_for_weights(folder):
    found = members(folder)
    del found["model.weights.h5"]
    write_zip(folder / KERAS, found | {"model.weights.npz": pickle.dumps(Harm())})
    seal(folder)


@case
def zip_with_a_member_twice(folder):
    found = members(folder)
    twice = [*found.items(), ("config.json", json.dumps(LAMBDA).encode())]
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_zip(folder / KERAS, twice)
    seal(folder)


@case
def zip_encrypted(folder):
    data = bytearray((folder / KERAS).read_bytes())
    at = data.find(b"PK\x01\x02")
    data[at + 8] |= 1
    (folder / KERAS).write_bytes(data)
    seal(folder)


# HDF5


def in_hdf5(change, file=WEIGHTS):
    """A case: `change(opened file, path of its first array)`."""

    def make(folder):
        import h5py

        with h5py.File(folder / file, "r+") as opened:
            arrays = []
            opened.visititems(lambda name, item: arrays.append(name) if hasattr(item, "dtype") and item.shape else None)
            change(opened, arrays[0])
        seal(folder)

    return make


def instead(opened, name, **options):
    """In place of an array another one."""
    shape = opened[name].shape
    del opened[name]
    return opened.create_dataset(name, **{"shape": shape, "dtype": "float32", **options})


def link(kind):
    def change(opened, name):
        import h5py

        del opened[name]
        opened[name] = h5py.ExternalLink("/etc/passwd", "/x") if kind == "external" else h5py.SoftLink("/../../x")

    return change


def virtual(opened, name):
    import h5py

    shape = opened[name].shape
    layout = h5py.VirtualLayout(shape, "float32")
    layout[...] = h5py.VirtualSource("/tmp/elsewhere.h5", "x", shape)
    del opened[name]
    opened.create_virtual_dataset(name, layout)


def stored_elsewhere(opened, name):
    size = 4
    for side in opened[name].shape:
        size *= side
    instead(opened, name, external=[("/etc/passwd", 0, size)])


def references(opened, name):
    import h5py

    opened["references"] = opened[name].ref
    opened.create_dataset("texts", data=["a" * 100] * 10, dtype=h5py.string_dtype())


def committed_type(opened, name):
    import numpy as np

    opened["kind"] = np.dtype("float64")


def cycle(opened, name):
    opened[f"{name.partition('/')[0]}/again"] = opened["/"]


def many_texts(opened, name):
    import h5py

    opened["layers"].attrs.create("names", ["x" * 10] * 4000, dtype=h5py.string_dtype())


def padded(opened, name):
    opened.create_dataset("more", data=[0.0] * 800_000, dtype="float32")


def filled(value):
    def change(opened, name):
        opened[name][...] = value

    return change


def swapped(opened, name):
    import numpy as np

    same = {}

    def look(name, item):
        if hasattr(item, "dtype") and len(item.shape) == 4:
            same.setdefault(item.shape, []).append(name)

    opened.visititems(look)
    one, other = next(names for names in same.values() if len(names) > 1)[:2]
    first, second = np.array(opened[one]), np.array(opened[other])
    opened[one][...], opened[other][...] = second, first


HDF5 = {
    "link_to_another_file": link("external"),
    "soft_link": link("soft"),
    "virtual_array": virtual,
    "array_stored_elsewhere": stored_elsewhere,
    "array_packed": lambda opened, name: instead(opened, name, chunks=True, compression="gzip"),
    "array_not_stored": lambda opened, name: instead(opened, name),
    "array_with_a_huge_shape": lambda opened, name: instead(opened, name, shape=(10**6, 10**6), chunks=(10, 10)),
    "array_of_doubles": lambda opened, name: instead(opened, name, data=opened[name][...], dtype="float64"),
    "array_of_halves": lambda opened, name: instead(opened, name, data=opened[name][...], dtype="float16"),
    "references_and_texts": references,
    "a_type_as_a_part": committed_type,
    "groups_in_a_ring": cycle,
    "many_texts": many_texts,
    "much_that_is_no_number": padded,
    "weights_not_a_number": filled(float("nan")),
    "weights_infinite": filled(float("inf")),
    "weights_all_zero": filled(0),
    "layers_swapped": swapped,
}
for name, change in HDF5.items():
    CASES[name] = in_hdf5(change)
CASES["link_in_h5"] = in_hdf5(link("external"), H5)
CASES["virtual_array_in_h5"] = in_hdf5(virtual, H5)


@case
def hidden_in_keras(folder):
    """The same link, in the file that is read when the weights are gone."""
    write_zip(folder / KERAS, members(folder) | {"model.weights.h5": linked(folder)})
    (folder / WEIGHTS).unlink()
    seal(folder)


def linked(folder):
    in_hdf5(link("external"))(folder)
    return (folder / WEIGHTS).read_bytes()


# Mix-ups


def other(**choices):
    """A case: the weights of another model that was saved by us, with checksums made right."""

    def make(folder):
        small_model(seed=1, **choices).save_weights(folder / WEIGHTS)
        seal(folder)

    return make


CASES["weights_of_another_model"] = other()
CASES["weights_of_three_classes"] = other(classes=("cat", "dog", "owl"))
CASES["weights_of_another_head"] = other(recipe=RECIPE.with_(hidden=16))


@case
def other_numbers_when_weights_are_gone(folder):
    small_model(seed=1).save(folder / KERAS)
    (folder / WEIGHTS).unlink()
    seal(folder)


@case
def three_labels_for_two_outputs(folder):
    (folder / "labels.json").write_text('["cat", "dog", "owl"]')
    seal(folder, lambda document: document.update(classes=["cat", "dog", "owl"]))


@case
def three_labels_and_three_answers_for_two_outputs(folder):
    (folder / "labels.json").write_text('["cat", "dog", "owl"]')
    check = [[0.5, 0.25, 0.25]] * 8
    seal(folder, lambda document: document.update(classes=["cat", "dog", "owl"], check=check))


@case
def a_label_twice(folder):
    (folder / "labels.json").write_text('["cat", "cat"]')
    seal(folder, lambda document: document.update(classes=["cat", "cat"]))


def chosen(**choices):
    """A case: the recipe says something else."""

    def make(folder):
        facts = json.loads((folder / "recipe.json").read_bytes())
        facts["recipe"] |= choices
        (folder / "recipe.json").write_text(json.dumps(facts))
        seal(folder)

    return make


CHOICES = {
    "another_preprocessing": {"preprocessing": "rescale"},
    "preprocessing_by_path": {"preprocessing": "os.system"},
    "another_size": {"image_size": 64},
    "a_huge_size": {"image_size": 10**9},
    "a_broken_size": {"image_size": 32.5},
    "a_size_in_words": {"image_size": "32"},
    "a_huge_hidden_layer": {"hidden": 10**9},
    "another_pooling": {"pools": [[5, "max"]]},
    "pools_without_end": {"pools": [[5, "max"]] * 20_000},
    "a_rate_that_is_no_number": {"learning_rate": float("nan")},
    "a_choice_too_many": {"__class__": "os.system"},
}
for name, choices in CHOICES.items():
    CASES[name] = chosen(**choices)


# Manifests


def listed(change):
    """A case: the manifest says something else, with its own checksum made right."""
    return lambda folder: seal(folder, change)


ABOUT = {"sha256": "0" * 64, "bytes": 1}
MANIFESTS = {
    "absolute_name": lambda document: document["files"].update({"/etc/passwd": ABOUT}),
    "name_that_leads_out": lambda document: document["files"].update({"../other.json": ABOUT}),
    "name_of_another_drive": lambda document: document["files"].update({"C:\\x": ABOUT}),
    "model_that_leads_out": lambda document: document["models"].update(weights="../../x.weights.h5"),
    "model_of_another_kind": lambda document: document["models"].update(weights="recipe.json"),
    "file_too_many": lambda document: document["files"].update({"run_me.sh": ABOUT}),
    "no_weights_listed": lambda document: document["models"].pop("weights") and None,
    "another_decoder": lambda document: document.update(decoder="1"),
    "bundle_name_that_leads_out": lambda document: document.update(name="../../x"),
    "bundle_name_with_colours": lambda document: document.update(name="\x1b[31mx"),
    "no_answers": lambda document: document.update(check=[]),
    "answers_that_are_no_probabilities": lambda document: document.update(check=[[5, -4]] * 8),
    "answers_that_are_texts": lambda document: document.update(check=[["a", "b"]] * 8),
    "answers_without_end": lambda document: document.update(check=[[0.5, 0.5]] * 30_000),
    "no_class_names": lambda document: document.pop("classes") and None,
    "versions_a_list": lambda document: document.update(versions=[]),
    "size_a_text": lambda document: document["files"][WEIGHTS].update(bytes="many"),
}
for name, change in MANIFESTS.items():
    CASES[name] = listed(change)


def manifest_as(change):
    """A case: the manifest's own bytes are others."""
    return lambda folder: (folder / "manifest.json").write_bytes(change((folder / "manifest.json").read_bytes()))


def twice(data):
    """The last of two entries counts for most readers, the first for some."""
    from vggnb.storage import sha256_bytes

    seal = json.loads(data)["sha256"].encode()
    data = data.replace(b'"decoder"', b'"name": "pets",\n  "decoder"', 1).replace(seal, b"0" * 64)
    return data.replace(b"0" * 64, sha256_bytes(data).encode())


BYTES = {
    "manifest_with_a_name_twice": twice,
    "manifest_without_checksum": lambda data: json.dumps(json.loads(data) | {"sha256": None}).encode(),
    "manifest_in_utf_16": lambda data: data.decode().encode("utf-16"),
    "manifest_with_a_mark": lambda data: b"\xef\xbb\xbf" + data,
    "manifest_empty": lambda data: b"",
    "manifest_no_json": lambda data: b"name: pets",
    "manifest_deep": lambda data: DEEP,
    "manifest_oversized": lambda data: data.replace(b"{", b"{" + b" " * 3_000_000, 1),
    "manifest_with_a_number_without_end": lambda data: data.replace(b'"bytes": ', b'"bytes": ' + b"9" * 9000, 1),
    "manifest_of_a_web_page": lambda data: b'{"name": "My page", "icons": []}',
}
for name, change in BYTES.items():
    CASES[name] = manifest_as(change)


# Places


def elsewhere(file, how):
    """A case: in place of the file there is something that is no file of this folder."""

    def make(folder):
        path = folder / file
        kept = path.rename(folder.with_name(f"kept-{folder.name}-{file}"))
        how(path, kept)

    return make


PLACES = {
    "linked_weights": (WEIGHTS, lambda path, kept: path.symlink_to(kept)),
    "linked_labels": ("labels.json", lambda path, kept: path.symlink_to(kept)),
    "linked_recipe": ("recipe.json", lambda path, kept: path.symlink_to(kept)),
    "linked_manifest": ("manifest.json", lambda path, kept: path.symlink_to(kept)),
    "linked_device": ("labels.json", lambda path, kept: path.symlink_to("/dev/zero")),
    "pipe_for_weights": (WEIGHTS, lambda path, kept: os.mkfifo(path)),
    "folder_for_labels": ("labels.json", lambda path, kept: path.mkdir()),
    "missing_labels": ("labels.json", lambda path, kept: None),
    "missing_recipe": ("recipe.json", lambda path, kept: None),
    "missing_manifest": ("manifest.json", lambda path, kept: None),
    "missing_card": ("card.json", lambda path, kept: None),
}
for name, (file, how) in PLACES.items():
    CASES[name] = elsewhere(file, how)


@case
def missing_numbers(folder):
    for file in (WEIGHTS, KERAS, H5):
        (folder / file).unlink()


@case
def a_file_with_holes(folder):
    os.truncate(folder / WEIGHTS, 50_000_000_000)
    document = json.loads((folder / "manifest.json").read_bytes())
    document["files"][WEIGHTS]["bytes"] = 50_000_000_000
    from vggnb.save.spec import write_manifest

    write_manifest(folder, document)  # `seal` would read the file


# The program


class Watch:
    """What happens in this process while a file is opened: writes, processes, sockets, code; and changed policies."""

    def __init__(self):
        self.armed, self.seen = False, []
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if not self.armed:
            return
        head = event.partition(".")[0]
        if event == "open":
            _, mode, flags = arguments
            writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            if set(mode or "") & set("wax+") or (flags or 0) & writing:
                self.seen.append(f"opened for writing: {arguments[0]}")
        elif head in ("socket", "subprocess", "shutil", "ctypes", "pty", "ftplib", "urllib") or event in EVENTS:
            self.seen.append(event)

    def policies(self):
        """What a file could change for everything that comes after it."""
        import keras
        from keras.src.saving import serialization_lib

        return {
            "dtype": keras.config.dtype_policy().name,
            "floatx": keras.config.floatx(),
            "epsilon": keras.config.epsilon(),
            "format": keras.config.image_data_format(),
            "safe mode": serialization_lib.in_safe_mode(),
            "objects": sorted(map(str, keras.saving.get_custom_objects())),
            "environment": dict(os.environ),
            "path": list(sys.path),
            "folder": os.getcwd(),
        }


EVENTS = {
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.remove", "os.rename", "os.mkdir",
    "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.utime", "pickle.find_class", "marshal.loads",
    "code.__new__", "exec", "compile", "import",
}  # fmt: skip


def tree(folder):
    """Every name in a folder and beside it, with size and time: what C libraries do is not heard."""
    found = []
    for path in sorted([*folder.rglob("*"), *folder.parent.iterdir()]):
        about = path.lstat()
        found.append((str(path), about.st_size, about.st_mtime_ns, about.st_mode))
    return found


def peak_bytes():
    """The most memory that this process has had since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("no VmHWM")


def forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def attempt(watch, folder, function):
    """Call a function that opens this folder, and say what came of it."""
    from vggnb.storage import VggnbError

    before, files = watch.policies(), tree(folder)
    forget_peak()
    memory, watch.seen, error = peak_bytes(), [], None
    cpu, watch.armed = time.process_time(), True
    try:
        function()
    except VggnbError as refusal:
        error = str(refusal)
    except Exception:
        watch.seen.append(f"not a refusal: {traceback.format_exc()}")
    finally:
        watch.armed = False
    cpu = time.process_time() - cpu
    after = watch.policies()
    effects = watch.seen + [name for name in before if before[name] != after[name]]
    if tree(folder) != files:
        effects.append("files changed")
    return {"refusal": error, "effects": effects, "cpu_s": round(cpu, 3), "bytes": peak_bytes() - memory}


def harmful(root):
    """Things that must be noticed, or the program sees nothing."""
    import keras

    def policy():
        keras.config.set_dtype_policy("mixed_float16")

    def unguarded():
        keras.models.load_model(root / "lambda_in_keras" / KERAS, safe_mode=False)

    return {
        "a file": lambda: (root / CANARY).write_text("x"),
        "a process": lambda: subprocess.Popen(["true"]).wait(),
        "a socket": lambda: socket.socket().close(),
        "a policy": policy,
        "code of a file, without the guard": unguarded,
    }


def main(root):
    """Make all, then open all of them in turn."""
    import keras

    from vggnb.save import load_bundle, proof, verify

    root.mkdir(parents=True, exist_ok=True)
    os.chdir(root)
    watch = Watch()
    with small_vgg():
        save_small(root / "good")
        for name, make in CASES.items():
            shutil.copytree(root / "good", root / name)
            try:
                make(root / name)
            except Exception as error:
                raise RuntimeError(f"the case {name} cannot be made") from error
        for _ in range(2):  # what is imported late is imported now
            load_bundle(root / "good")
            attempt(watch, root / "good", lambda: verify(root / "lambda_in_keras"))
        proof._main = lambda folder: print("{}")  # the fresh process: what gets as far is looked at by loading
        document = {"good": attempt(watch, root / "good", lambda: load_bundle(root / "good")), "cases": {}}
        for name in CASES:
            tried = document["cases"][name] = [attempt(watch, root / name, functools.partial(verify, root / name))]
            refusal = tried[0]["refusal"] or ""
            if any(file in refusal for file in (JSON, "card.json")):
                continue  # loading looks at neither
            only(root / name, refusal)
            tried.append(attempt(watch, root / name, functools.partial(load_bundle, root / name)))
        document["harm"] = {name: attempt(watch, root / "good", harm) for name, harm in harmful(root).items()}
        keras.config.set_dtype_policy("float32")
    print(json.dumps(document))


def only(folder, refusal):
    """When a file was refused that loading would not look at, leave it as the only one with numbers."""
    for needed in (KERAS, H5):
        if f"/{needed}" in refusal:
            for file in {WEIGHTS, KERAS, H5} - {needed}:
                (folder / file).unlink(missing_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
