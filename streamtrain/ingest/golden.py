"""A file of golden cases → samples: lines as in the log, each with the label that it must get."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtrain.ingest.decode import Decoder
from streamtrain.ingest.schema import Schema
from streamtrain.types import Samples

MOST_BYTES = 64 * 1024 * 1024
_SOURCE = 1
_MOST_TOLD = 5
_KEPT = ("features", "label", "timestamp", "id", "session")


class GoldenError(ValueError):
    """The golden file can't be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class GoldenCases:
    """What must come out right.

    Attributes
    ----------
    samples : Samples
        In the order of the file.
    names : tuple of str
        "line 3" and so on, for sentences.
    """

    samples: Samples
    names: tuple[str, ...]


def read_golden(file: Path, schema: Schema) -> GoldenCases:
    """Read a golden file.

    Parameters
    ----------
    file : Path
        JSON Lines: features, and the expected label under the schema's field for it. A session and a time may be there;
        a model that follows sessions answers those of one session one after the other. Other fields are ignored; so are
        blank lines.
    schema : Schema
        Of the log. Where that joins lines or makes labels from scores, golden lines still are whole and have a label.

    Raises
    ------
    GoldenError
        If the file can't be read, holds no case, or a line of it is none.
    """
    data = _bytes(file)
    plain = Schema(**{name: getattr(schema, name) for name in _KEPT})
    found = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")).astype(np.int64)
    ends = found if data.endswith(b"\n") or not data else np.append(found, len(data))
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    # Of cases without a time, the order of the file is theirs.
    decoded = Decoder(plain, lambda: 0.0).decode_lines(data, ends, _SOURCE, 0)
    if decoded.bad:
        told = "; ".join(
            f"line {int(np.searchsorted(starts, bad.offset, side='right'))}: {bad.reason}"
            for bad in decoded.bad[:_MOST_TOLD]
        )
        more = f"; and {len(decoded.bad) - _MOST_TOLD} more" if len(decoded.bad) > _MOST_TOLD else ""
        raise GoldenError(f"{file}: {told}{more}")
    n = len(decoded.samples.labels)
    if n == 0:
        raise GoldenError(f"{file}: it has no case; each line is a JSON object with the features and {schema.label!r}")
    lines = [number for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1) if data[start:end].strip()]
    return GoldenCases(decoded.samples, tuple(f"line {number}" for number in lines))


def _bytes(file: Path) -> bytes:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise GoldenError(f"{file}: it is not a regular file")
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise GoldenError(f"{file}: {error.strerror or error}") from error
    if len(data) > MOST_BYTES:
        raise GoldenError(f"{file}: it is longer than {MOST_BYTES // 2**20} MiB")
    return data
