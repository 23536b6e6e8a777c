"""Tensors to safetensors bytes and back, in memory: files are read whole and never mapped.

A mapped file that is truncated under a reader kills the process (SIGBUS), and a reader in the request path may not die.
Bytes are parsed by the safetensors library. They are laid out here, because the library writes the metadata in an order
that changes from run to run, and a replayed training must give the same digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

HEADER_LIMIT_BYTES = 64 * 1024
"""Largest header that is parsed. A FastGRNN's is under 4 KiB plus its feature names."""

_NUMPY_OF: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I8": np.dtype("i1"),
}
_NAME_OF = {dtype: name for name, dtype in _NUMPY_OF.items()}

Tensors = dict[str, NDArray[Any]]

# The library ships no annotations.
_deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize


class TensorFileError(ValueError):
    """Bytes that are not the safetensors file that was expected."""


def write(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Lay out a safetensors file; the same input gives the same bytes.

    Parameters
    ----------
    tensors : mapping of str to float64, float32 or int8 array
        Stored widest type first and then by name, so that each is aligned to its own size.
    metadata : mapping of str to str

    Returns
    -------
    bytes

    Raises
    ------
    TensorFileError
        If a tensor has another dtype, or the header exceeds `HEADER_LIMIT_BYTES` (far too many or too long names).
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    blocks: list[bytes] = []
    offset = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0])):
        stored = tensor.astype(tensor.dtype.newbyteorder("<"), order="C", copy=False)
        if stored.dtype not in _NAME_OF:
            raise TensorFileError(f"tensor {name} has dtype {tensor.dtype}; expected float64, float32, float16 or int8")
        block = stored.tobytes()
        header[name] = {
            "dtype": _NAME_OF[stored.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(block)],
        }
        blocks.append(block)
        offset += len(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_LIMIT_BYTES:
        raise TensorFileError(
            f"the header takes {len(text)} bytes; expected at most {HEADER_LIMIT_BYTES}: shorten the feature names"
        )
    return len(text).to_bytes(8, "little") + text + b"".join(blocks)


def read(data: bytes) -> tuple[Tensors, dict[str, str]]:
    """Parse a safetensors file.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    tensors : dict of str to float64, float32 or int8 array
        Copies, writable, in native byte order.
    metadata : dict of str to str

    Raises
    ------
    TensorFileError
        If the bytes are not a safetensors file, the header exceeds `HEADER_LIMIT_BYTES`, or a dtype is not one of the
        four (INT8 or F16 under Tiny Dancer's names abort its whole process: they are never passed on).
    """
    if len(data) < 8:
        raise TensorFileError(f"the file has {len(data)} bytes; expected a safetensors file, which starts with 8")
    header_size = int.from_bytes(data[:8], "little")
    if header_size > HEADER_LIMIT_BYTES:
        raise TensorFileError(f"the header claims {header_size} bytes; expected at most {HEADER_LIMIT_BYTES}")
    try:
        stored = _deserialize(data)
    except safetensors.SafetensorError as error:
        raise TensorFileError(f"not a valid safetensors file: {error}") from error
    tensors: Tensors = {}
    for name, entry in stored:
        dtype = _NUMPY_OF.get(entry["dtype"])
        if dtype is None:
            raise TensorFileError(f"tensor {name} has dtype {entry['dtype']}; expected F64, F32, F16 or I8")
        tensor = np.frombuffer(entry["data"], dtype=dtype).reshape(entry["shape"])
        tensors[name] = tensor.astype(dtype.newbyteorder("="), copy=False)
    # The library has accepted the header, so it is JSON, not deep, and the metadata are strings.
    metadata: dict[str, str] = json.loads(data[8 : 8 + header_size]).get("__metadata__") or {}
    return tensors, metadata
