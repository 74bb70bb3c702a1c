"""An ONNX model written without the package onnx: few kinds of steps, float32 and int64 constants.

The format is protocol buffers, https://protobuf.dev/programming-guides/encoding, with the numbers of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. The same graph gives the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

IR_VERSION, OPSET = 8, 18
TYPES = {"float32": 1, "uint8": 2, "int64": 7}
Attribute = int | float | str | Sequence[int]
Ports = Mapping[str, tuple[str, Sequence[int | str]]]


class OnnxGraph:
    """Steps and constants, in the order in which they are named."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []

    def constant(self, array: np.ndarray) -> str:
        """A constant; returns its name."""
        name = f"c{len(self._constants)}"
        dims = b"".join(_int(1, side) for side in array.shape)
        raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        self._constants.append(dims + _int(2, TYPES[str(array.dtype)]) + _text(8, name) + _bytes(9, raw))
        return name

    def node(self, kind: str, inputs: Sequence[str], *, out: str = "", **attributes: Attribute) -> str:
        """A step; returns the name of its output. inputs: names; "" for one that is left out."""
        out = out or f"x{len(self._nodes)}"
        held = b"".join(_text(1, name) for name in inputs) + _text(2, out) + _text(4, kind)
        self._nodes.append(held + b"".join(_bytes(5, _attribute(*pair)) for pair in attributes.items()))
        return out

    def model(self, inputs: Ports, outputs: Ports) -> bytes:
        """The whole model. inputs, outputs: name -> (dtype, shape); a side that is a name may have any length."""
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _text(2, "handful")
        graph += b"".join(_bytes(5, constant) for constant in self._constants)
        graph += b"".join(_bytes(11, _port(name, *about)) for name, about in inputs.items())
        graph += b"".join(_bytes(12, _port(name, *about)) for name, about in outputs.items())
        opset = _text(1, "") + _int(2, OPSET)
        return _int(1, IR_VERSION) + _text(2, "handful") + _bytes(7, graph) + _bytes(8, opset)


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + _int(3, value) + _int(20, 2)
    if isinstance(value, float):
        return _text(1, name) + _varint(2 << 3 | 5) + struct.pack("<f", value) + _int(20, 1)
    if isinstance(value, str):
        return _text(1, name) + _text(4, value) + _int(20, 3)
    return _text(1, name) + b"".join(_int(8, one) for one in value) + _int(20, 7)


def _port(name: str, dtype: str, shape: Iterable[int | str]) -> bytes:
    sides = b"".join(_bytes(1, _int(1, s) if isinstance(s, int) else _text(2, s)) for s in shape)
    tensor = _int(1, TYPES[dtype]) + _bytes(2, sides)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))
