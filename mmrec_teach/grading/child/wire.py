"""Values between the grader and the process that runs a student's code: npz bytes, no pickle, exact types, bounded sizes.

A message is an npz archive of stored (not compressed) arrays and one JSON tree that says how they belong together. What is
read back has been checked before a byte of it is allocated: number and size of arrays, their types, the depth of the tree.
An object of any other type, a subclass included, crosses as its type's name alone (`Opaque`): what its methods would claim
about it is never asked.
"""

from __future__ import annotations

import io
import json
import math
import struct
import sys
import zipfile
from typing import Any

import numpy as np

MAX_BYTES = 64 * 2**20
MAX_TREE = 8 * 2**20
MAX_ARRAYS = 2000
MAX_DEPTH = 24
_TREE = "tree.json"
_HEAD = struct.Struct(">Q")
_KINDS = "biufc"
_MT_WORDS = 624  # of the Mersenne twister in a torch.Generator
_SCALARS = (bool, int, float, str, type(None))
_END, _END64 = b"PK\x05\x06", b"PK\x06\x07"


class WireError(Exception):
    """A message that is broken, too large, or not what a message may hold."""


class Opaque:
    """Something that does not cross: only the name of its type does."""

    def __init__(self, type_name: str):
        self.type_name = type_name

    def __repr__(self) -> str:
        return f"<{self.type_name}>"


def pack(value: Any) -> bytes:
    """The message that stands for ``value``: numbers, strings, None, arrays, tensors, lists, tuples, dicts, sets of scalars.

    Raises:
        WireError: larger than MAX_BYTES, nested deeper than MAX_DEPTH.
    """
    arrays: list[np.ndarray] = []
    tree = json.dumps(_encode(value, arrays, 0)).encode()
    if len(tree) > MAX_TREE:
        raise WireError("the answer has too many parts")
    if sum(array.nbytes for array in arrays) > MAX_BYTES:
        raise WireError(f"the answer is larger than {MAX_BYTES // 2**20} MB")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_TREE, tree)
        for index, array in enumerate(arrays):
            with archive.open(f"{index}.npy", "w", force_zip64=array.nbytes > 2**30) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return buffer.getvalue()


def unpack(message: bytes) -> Any:
    """The value a message stands for.

    Raises:
        WireError: whatever is wrong with it; nothing else is raised.
    """
    try:
        _look_at_the_end(message)
        with zipfile.ZipFile(io.BytesIO(message)) as archive:
            entries = archive.infolist()
            if len(entries) > MAX_ARRAYS + 1:
                raise WireError("the message has too many parts")
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
                raise WireError("the message is compressed")
            if sum(entry.file_size for entry in entries) > 2 * len(message):
                raise WireError("the message claims to be larger than it is")
            arrays = {}
            for entry in entries:
                content = archive.read(entry)
                if entry.filename == _TREE:
                    if len(content) > MAX_TREE:
                        raise WireError("the message has too many parts")
                    tree = json.loads(content)
                else:
                    arrays[int(entry.filename.removesuffix(".npy"))] = _array(content)
        return _decode(tree, arrays, 0)
    except WireError:
        raise
    except (Exception, RecursionError) as error:
        raise WireError(f"the message cannot be read: {type(error).__name__}") from error


def _look_at_the_end(message: bytes) -> None:
    """Check the directory at an archive's end before `zipfile` reads it: it makes an object of each entry first of all."""
    if len(message) > MAX_BYTES + 2 * MAX_TREE:
        raise WireError("the message is too large")
    end = message[-22:]
    if end[:4] != _END or message[-42:-38] == _END64:
        raise WireError("the message is no archive")
    count, size = struct.unpack_from("<HI", end, 10)
    if count > MAX_ARRAYS + 1 or size > 100 * count:
        raise WireError("the message has too many parts")


def _array(content: bytes) -> np.ndarray:
    """One .npy file, its size checked against its header before anything is allocated."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran, dtype = read_header(file)
    if dtype.kind not in _KINDS or dtype.hasobject or dtype.itemsize == 0 or len(shape) > 16:
        raise WireError(f"an array of type {dtype}")
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise WireError("an array whose size is not what its header says")
    flat = np.frombuffer(content, dtype=dtype, offset=file.tell())
    if dtype.kind == "b":  # any other byte than 0 and 1 would be neither true nor false
        flat = flat.view(np.uint8) != 0
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def send(file: Any, value: Any) -> None:
    """Write one message to a socket."""
    message = pack(value)
    file.sendall(_HEAD.pack(len(message)) + message)


def receive(file: Any, read: Any = None) -> Any:
    """Read one message from a socket; ``read(n)`` may replace how n bytes are got (with a deadline, say).

    Raises:
        EOFError: the other side is gone. WireError: the message cannot be used.
    """
    read = read or (lambda count: read_exactly(file, count))
    (length,) = _HEAD.unpack(read(_HEAD.size))
    if length > MAX_BYTES + 2 * MAX_TREE:
        raise WireError("the message is too large")
    return unpack(read(length))


def read_exactly(file: Any, count: int) -> bytes:
    """``count`` bytes from a socket; EOFError when it ends before."""
    parts = bytearray()
    while len(parts) < count:
        part = file.recv(min(count - len(parts), 2**20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def settle(value: Any, depth: int = 0) -> Any:
    """``value`` as it would arrive on the other side, but with its tensors alive: what does not cross becomes `Opaque`."""
    kind = type(value)
    if depth > MAX_DEPTH:
        return Opaque(f"{kind.__name__} nested too deeply")
    if value is None or kind in (bool, float, str):
        return value
    if kind is int:
        return value if abs(value) < 2**63 else Opaque("int beyond 64 bits")
    if kind in (list, tuple, set, frozenset):
        return kind(settle(part, depth + 1) for part in value)
    if kind is dict:
        return {settle(key, depth + 1): settle(part, depth + 1) for key, part in value.items()}
    return value if _array_node(value) is not None else Opaque(kind.__name__)


def leaves(value: Any) -> list:
    """What lists, tuples and dicts hold, in order, whatever their depth."""
    if type(value) in (list, tuple):
        return [leaf for part in value for leaf in leaves(part)]
    if type(value) is dict:
        return [leaf for part in value.values() for leaf in leaves(part)]
    return [value]


# -- the tree ---------------------------------------------------------------------------------------------------------------
def _encode(value: Any, arrays: list[np.ndarray], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise WireError("the answer is nested too deeply")
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return value if abs(value) < 2**63 else {"opaque": "int beyond 64 bits"}
    if kind is float:
        return {"float": repr(value)}
    if kind is str:
        return {"str": value[:100_000].encode("utf-8", "replace").decode()}
    if kind in (list, tuple, set, frozenset):
        if len(value) > 100_000:
            return {"opaque": f"{kind.__name__} of {len(value)}"}
        if kind in (set, frozenset) and not all(type(part) in _SCALARS for part in value):
            return {"opaque": f"{kind.__name__} of other things than numbers and words"}
        return {kind.__name__: [_encode(part, arrays, depth + 1) for part in value]}
    if kind is dict:
        if len(value) > 10_000:
            return {"opaque": f"dict of {len(value)}"}
        if not all(type(key) in _SCALARS for key in value):
            return {"opaque": "dict whose keys are other things than numbers and words"}
        return {"dict": [[_encode(one, arrays, depth + 1), _encode(part, arrays, depth + 1)] for one, part in value.items()]}
    node = _array_node(value)
    if node is None:
        return {"opaque": kind.__name__ if kind is not Opaque else value.type_name}
    fields, array = node
    if type(array) is tuple:
        indices = []
        for part in array:
            indices.append(_store(part, arrays))
        return {**fields, "arrays": indices}
    return {**fields, "array": _store(array, arrays)}


def _store(array: np.ndarray, arrays: list[np.ndarray]) -> int:
    if len(arrays) >= MAX_ARRAYS:
        raise WireError("the answer has too many parts")
    arrays.append(array if array.flags.forc else np.ascontiguousarray(array))
    return len(arrays) - 1


def _array_node(value: Any) -> tuple[dict, Any] | None:
    """How an array, tensor, sparse matrix or generator is written; None when it is none of these exactly."""
    kind = type(value)
    if kind is np.ndarray:
        return ({"as": "numpy"}, value) if value.dtype.kind in _KINDS else None
    if kind.__module__ == "numpy" and isinstance(value, np.number | np.bool_) and kind is value.dtype.type:
        return {"as": "scalar"}, np.asarray(value)
    torch = sys.modules.get("torch")
    if torch is not None and kind in (torch.Tensor, torch.nn.Parameter):
        plain = value.detach().cpu()
        fields = {"as": "tensor", "grad": bool(value.requires_grad)}
        if plain.layout == torch.sparse_csr:
            parts = (plain.crow_indices(), plain.col_indices(), plain.values())
            return {**fields, "as": "csr", "shape": list(plain.shape)}, tuple(part.numpy() for part in parts)
        if plain.layout != torch.strided:
            plain = plain.to_dense()
        if plain.dtype not in _tensor_types(torch):
            if not plain.dtype.is_floating_point:
                return None
            plain = plain.float()
        return fields, plain.resolve_conj().resolve_neg().numpy()
    if torch is not None and kind is torch.Generator:
        return {"as": "torch-generator"}, value.get_state().numpy()
    if kind is np.random.Generator and type(value.bit_generator) is np.random.PCG64:
        state = value.bit_generator.state
        words = [state["state"]["state"], state["state"]["inc"], state["has_uint32"], state["uinteger"]]
        return {"as": "numpy-generator", "state": [str(word) for word in words]}, np.zeros(0)
    if kind.__module__.startswith("scipy.sparse"):
        import scipy.sparse

        if scipy.sparse.issparse(value) and value.dtype.kind in _KINDS:
            rows = scipy.sparse.csr_array(value)
            return {"as": "scipy", "shape": list(rows.shape)}, (rows.indptr, rows.indices, rows.data)
    pandas = sys.modules.get("pandas")
    if pandas is not None and kind in (pandas.Series, pandas.DataFrame):
        values = value.to_numpy()
        return ({"as": "numpy"}, values) if values.dtype.kind in _KINDS else None
    return None


def _tensor_types(torch: Any) -> tuple:
    return (
        torch.float16, torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool,
        torch.complex64, torch.complex128,
    )  # fmt: skip


def _decode(node: Any, arrays: dict[int, np.ndarray], depth: int) -> Any:
    if depth > MAX_DEPTH + 1:
        raise WireError("the message is nested too deeply")
    if node is None or type(node) is bool:
        return node
    if type(node) is int:
        return _bounded(node)
    if "float" in node:
        return float(node["float"])
    if "str" in node:
        return _text(node["str"])
    if "opaque" in node:
        return Opaque("".join(letter if letter.isprintable() else " " for letter in _text(node["opaque"])[:80]))
    for kind in (list, tuple):
        if kind.__name__ in node:
            return kind(_decode(part, arrays, depth + 1) for part in node[kind.__name__])
    for kind in (set, frozenset):
        if kind.__name__ in node:
            return kind(_key(_decode(part, arrays, depth + 1)) for part in node[kind.__name__])
    if "dict" in node:
        return {_key(_decode(one, arrays, depth + 1)): _decode(part, arrays, depth + 1) for one, part in node["dict"]}
    return _decode_array(node, arrays)


def _bounded(number: int) -> int:
    if abs(number) >= 2**63:
        raise WireError("an int beyond 64 bits")
    return number


def _key(value: Any) -> Any:
    """A member of a set or a dict's key. Tuples could be chosen to have one hash, and would fill a table for hours."""
    if type(value) not in _SCALARS:
        raise WireError("a set or a dict of other things than numbers and words")
    return value


def _text(value: str) -> str:
    """A string that can be written to a file: no half of a surrogate pair."""
    return value.encode("utf-8", "replace").decode()


def _decode_array(node: dict, arrays: dict[int, np.ndarray]) -> Any:
    form = node["as"]
    if form == "numpy":
        return arrays[node["array"]]
    if form == "scalar":
        return arrays[node["array"]][()]
    if form == "scipy":
        import scipy.sparse

        indptr, indices, data = (arrays[index] for index in node["arrays"])
        rows = scipy.sparse.csr_array((data, indices, indptr), shape=tuple(node["shape"]))
        rows.check_format(full_check=True)  # scipy's compiled code trusts the indices
        return rows
    if form == "numpy-generator":
        state, inc, has, word = (int(number) for number in node["state"])
        bits = np.random.PCG64()
        bits.state = {
            "bit_generator": "PCG64",
            "state": {"state": state, "inc": inc},
            "has_uint32": has,
            "uinteger": word,
        }
        return np.random.Generator(bits)
    import torch

    if form == "torch-generator":
        state = arrays[node["array"]]
        left, _, following = struct.unpack_from("<iiQ", state.tobytes(), 8)
        if not 1 <= left <= _MT_WORDS or following > _MT_WORDS:  # torch would draw from beyond its table
            raise WireError("a generator in a state that no generator is in")
        generator = torch.Generator()
        generator.set_state(torch.from_numpy(state))
        return generator
    if form == "csr":
        parts = [torch.from_numpy(arrays[index]) for index in node["arrays"]]
        return torch.sparse_csr_tensor(*parts, size=tuple(node["shape"]), check_invariants=True)
    if form != "tensor":
        raise WireError(f"a value of form {form!r}")
    array = arrays[node["array"]]
    tensor = torch.from_numpy(array)
    return tensor.requires_grad_(True) if node.get("grad") and array.dtype.kind in "fc" else tensor
