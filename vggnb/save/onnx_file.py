"""What is in an ONNX file, read from its bytes: neither onnx nor onnxruntime is needed, and nothing is run.

An ONNX file is a Protocol Buffers message (onnx.proto, ModelProto). Only its shape is walked here: the big arrays are
stepped over.
"""

from collections.abc import Iterator
from pathlib import Path

from vggnb.storage import VggnbError

OPERATORS = (
    "Add", "Cast", "Concat", "Conv", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MatMul", "MaxPool",
    "Mul", "ReduceMax", "ReduceMean", "Relu", "Reshape", "Slice", "Softmax", "Squeeze", "Sub", "Transpose",
)  # fmt: skip
MOST_NODES = 500
AGAIN = "Copy it from where it was saved, or save the run again."


def check_onnx(path: Path) -> None:
    """Refuse an ONNX file that holds anything else than what `exports` writes.

    Raises:
        VggnbError: no ONNX file, cut, or with another operator, a function, an inner graph or numbers elsewhere.
    """
    try:
        _check_model(memoryview(path.read_bytes()), path)
    except (ValueError, IndexError) as error:
        raise VggnbError(f"The file is damaged, or no ONNX file ({error}).", path, AGAIN) from None


def _check_model(data: memoryview, path: Path) -> None:
    """ModelProto: one graph, no functions, no training."""
    graphs = [value for _, value in _only(data, {*range(1, 9), 14}, "a function or another part", path, wanted=7)]
    if len(graphs) != 1:
        raise VggnbError("The file is damaged, or no ONNX file (it holds no graph).", path, AGAIN)
    nodes = 0
    for number, part in _only(graphs[0], {1, 2, 5, 10, 11, 12, 13}, "an array of another kind", path):
        if number == 1:
            nodes += 1
            _check_node(part, path)
        if number == 5:
            _check_tensor(part, path)
    if not 0 < nodes <= MOST_NODES:
        raise _refused(f"it has {nodes} operators", path)


def _check_node(data: memoryview, path: Path) -> None:
    """NodeProto: a known operator of ONNX's own."""
    domain, operator = "", ""
    for number, value in _only(data, {1, 2, 3, 4, 5, 6, 7}, "an operator with other parts", path):
        if number == 4:
            operator = _text(value)
        if number == 7:
            domain = _text(value)
        if number == 5:
            for part, tensor in _only(value, {1, 2, 3, 4, 5, 7, 8, 9, 13, 20}, "a graph in an operator", path):
                if part == 5:
                    _check_tensor(tensor, path)
    if operator not in OPERATORS or domain not in ("", "ai.onnx"):
        raise _refused(f"it names the operator {domain and domain + ':'}{operator[:40]!r}", path)


def _check_tensor(data: memoryview, path: Path) -> None:
    """TensorProto: its numbers are in this file."""
    for _ in _only(data, {1, 2, *range(4, 13)}, "an array that lies in another file", path):
        pass


def _only(
    data: memoryview, allowed: set[int], what: str, path: Path, *, wanted: int | None = None
) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message (number, value), all of which must be `allowed`; with `wanted`, only those of it."""
    if not isinstance(data, memoryview):
        raise ValueError("a number stands for a message")
    for number, value in _fields(data):
        if number not in allowed and (number, value) != (14, 0):  # a tensor's place, said to be this file
            raise _refused(f"it holds {what}", path)
        if wanted in (None, number):
            yield number, value


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Field numbers and values of a Protocol Buffers message (protobuf.dev/programming-guides/encoding)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 2, 5):
            size, at = _varint(data, at) if kind == 2 else (8 if kind == 1 else 4, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("a field of an unknown kind")
        if at > len(data):
            raise ValueError("it is cut short")
        yield key >> 3, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at + shift // 7]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + shift // 7 + 1
    raise ValueError("a number is too long")


def _text(value: memoryview | int) -> str:
    if not isinstance(value, memoryview):  # bytes(number) would be so many zero bytes
        raise ValueError("a number stands for a text")
    return bytes(value).decode("utf-8", "replace")


def _refused(what: str, path: Path) -> VggnbError:
    return VggnbError(f"The file is refused: {what}.", path, AGAIN)
