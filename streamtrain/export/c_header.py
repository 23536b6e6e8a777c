"""A model as one C99 header: INT8 weights, whole numbers, tables, and the cell of `cell.h` below them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from streamtrain.export.fixed_point import FixedPoint, Layer, Whole, to_fixed_point
from streamtrain.export.source import Source
from streamtrain.types import I8

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _-.:[]()")
_LONGEST_NAME = 60
_LINE = 118
# Room for saved registers and scalars of the frames below a call, beside the arrays.
_FRAMES_BYTES = 384


@dataclass(frozen=True, slots=True)
class Header:
    """A header and its size.

    Attributes
    ----------
    text : str
        ASCII; the same for the same source and name.
    weight_bytes : int
        INT8 weights.
    constant_bytes : int
        Scales, biases, normalisation and the table of tanh.
    stack_bytes : int
        What a call takes at most, as far as that can be said without the compiler: its arrays, and room for frames.
    session_bytes : int
        State of a session; 0 without.
    """

    text: str
    weight_bytes: int
    constant_bytes: int
    stack_bytes: int
    session_bytes: int


def to_c_header(source: Source, *, sessions: bool, name: str = "streamtrain") -> Header:
    """Write the header.

    Parameters
    ----------
    source : Source
    sessions : bool
        Whether it also has the step that keeps hidden states.
    name : str
        What its names begin with: a C identifier of at most 40 characters.

    Returns
    -------
    Header

    Raises
    ------
    ValueError
        If `name` is no identifier, or the model does not fit (see `to_fixed_point`).
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(f"export: name is {name!r}; expected a letter and up to 39 letters, digits or underscores")
    fixed = to_fixed_point(source, sessions=sessions)
    tables = _Tables()
    tables.add("int32_t", "knots", fixed.knots)
    tables.add("int32_t", "mean", fixed.means)
    tables.add("uint32_t", "ratio", fixed.ratios)
    tables.add("uint8_t", "ratio_shift", fixed.ratio_shifts)
    for layer_name, layer in fixed.layers.items():
        if layer_name != "output":
            tables.add_layer(layer_name, layer)
    output = fixed.layers["output"]
    tables.add("int8_t", "output_w", output.weights[0])
    cell = files("streamtrain.export").joinpath("cell.h").read_text(encoding="ascii")
    body = "\n".join(
        [
            "#ifndef STREAMTRAIN_H\n#define STREAMTRAIN_H\n\n#include <stdint.h>\n",
            f"#define STREAMTRAIN_FEATURES {source.config.input_dim}",
            f"#define STREAMTRAIN_HIDDEN {source.config.hidden_dim}",
            f"#define STREAMTRAIN_SESSIONS {int(sessions)}",
            f"#define STREAMTRAIN_Z_LIMIT INT64_C({fixed.z_limit})",
            *_output_constants(output),
            "",
            *tables.lines,
            *_units(fixed),
            "",
            cell,
            "#endif",
            "",
        ]
    )
    hidden, n_features = source.config.hidden_dim, source.config.input_dim
    return Header(
        text=_title(source, fixed, sessions) + _named(body, name),
        weight_bytes=sum(layer.weights.size for layer in fixed.layers.values()),
        constant_bytes=tables.n_bytes - sum(layer.weights.size for layer in fixed.layers.values()),
        stack_bytes=4 * n_features + (4 * hidden if sessions else 0) + _FRAMES_BYTES,
        session_bytes=4 * hidden if sessions else 0,
    )


class _Tables:
    """Constant arrays as C text, and what they take."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.n_bytes = 0

    def add(self, c_type: str, name: str, values: Whole | I8) -> None:
        sizes = "".join(f"[{n}]" for n in values.shape)
        if values.ndim == 1:
            rows = _wrapped(str(value) for value in values.tolist())
        else:
            rows = [f"    {{{', '.join(map(str, row))}}}," for row in values.tolist()]
        self.lines += [f"static const {c_type} streamtrain_{name}{sizes} = {{", *rows, "};"]
        self.n_bytes += values.size * int(re.sub(r"\D", "", c_type)) // 8

    def add_layer(self, name: str, layer: Layer) -> None:
        self.add("int8_t", f"{name}_w", layer.weights)
        self.add("uint16_t", f"{name}_m", layer.multipliers)
        self.add("uint8_t", f"{name}_s", layer.shifts)
        if layer.biases is not None:
            self.add("int32_t", f"{name}_b", layer.biases)


def _title(source: Source, fixed: FixedPoint, sessions: bool) -> str:
    config = source.config
    lines = [
        "A FastGRNN that says whether the lightweight model is good enough for a request. Written by streamtrain.",
        f"{config.input_dim} features, {config.hidden_dim} hidden units, INT8 weights, whole numbers throughout; C99.",
        "",
        f"from     {_harmless(source.version or 'a model file')}",
        f"SHA-256  {source.sha256}",
        f"calls    {'score, and step for sessions' if sessions else 'score: each request by itself'}",
        "",
        "x[i] is the raw feature times the unit, rounded:",
        *(
            f"  x[{i}]  unit 2^{bits:<3}  {_harmless(name)}"
            for i, (name, bits) in enumerate(zip(source.features, fixed.input_bits, strict=True))
        ),
    ]
    return "".join(["/*\n", *(f" * {line}".rstrip() + "\n" for line in lines), " */\n"])


def _harmless(name: str) -> str:
    """Make a name from a log fit for a comment: nothing in it can end the comment or the line, or mislead a reader."""
    short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 3] + "..."
    return "".join(sign if sign in _PLAIN else f"<{ord(sign):x}>" for sign in short)


def _output_constants(output: Layer) -> list[str]:
    if output.biases is None:
        raise ValueError("export: the output has no bias")
    return [
        f"#define STREAMTRAIN_OUTPUT_M {output.multipliers[0]}",
        f"#define STREAMTRAIN_OUTPUT_S {output.shifts[0]}u",
        f"#define STREAMTRAIN_OUTPUT_B ({output.biases[0]})",
    ]


def _units(fixed: FixedPoint) -> list[str]:
    units = _wrapped(f"{2.0**bits!r}f" for bits in fixed.input_bits)
    return [
        "#ifdef STREAMTRAIN_FLOAT",
        f"static const float streamtrain_unit[{len(fixed.input_bits)}] = {{",
        *units,
        "};",
        "#endif",
    ]


def _wrapped(numbers: Iterable[str]) -> list[str]:
    lines, line = [], "   "
    for number in numbers:
        if len(line) + len(number) + 2 > _LINE:
            lines.append(line)
            line = "   "
        line += f" {number},"
    return [*lines, line]


def _named(text: str, name: str) -> str:
    return text.replace("streamtrain_", f"{name}_").replace("STREAMTRAIN_", f"{name.upper()}_")
