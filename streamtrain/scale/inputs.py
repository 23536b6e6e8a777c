"""Which parts the inputs are read in: stretches of plain JSON Lines, everything else by the file.

The parts depend on the files and on `part_bytes` alone, never on how many workers there are or when they come: what is
trained on, and in which order results are put together, goes by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamtrain.config import Config
from streamtrain.ingest.packed import is_packed
from streamtrain.ingest.scan import Chosen
from streamtrain.scale.files import InputFile, InputReader, listed

PART_BYTES: Final = 64 << 20
"""Of a plain file, unless something else is asked for: some 500,000 lines."""
_PEEKED_BYTES: Final = 4096
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Part:
    """What one task reads.

    Attributes
    ----------
    index : int
        Its place among all parts.
    file : InputFile
    start, stop : int or None
        The lines that begin in these bytes; None for a whole file.
    time_s : float
        Time of lines that have none.
    """

    index: int
    file: InputFile
    start: int | None
    stop: int | None
    time_s: float


def plan(config: Config, urls: Sequence[str], options: Mapping[str, Any], part_bytes: int, time_s: float) -> list[Part]:
    """List the parts of some inputs.

    Parameters
    ----------
    config : Config
        Of folders, those files are read that its section `logs` lets the daemon read.
    urls : sequence of str
    options : mapping
        For the file systems.
    part_bytes : int
    time_s : float
        Time of lines that have none.

    Returns
    -------
    list of Part

    Raises
    ------
    InputError
        If something can't be listed or opened.
    """
    chosen = Chosen(config.logs.include, config.logs.exclude)
    parts: list[Part] = []
    for file in listed(urls, options, chosen.would_find):
        for start, stop in _stretches(file, options, part_bytes):
            parts.append(Part(len(parts), file, start, stop, time_s))
    return parts


def _stretches(
    file: InputFile, options: Mapping[str, Any], part_bytes: int
) -> list[tuple[int, int]] | list[tuple[None, None]]:
    if not file.size:
        return []
    with InputReader(file, options) as reader:
        begin = reader.begin(_PEEKED_BYTES)
        whole = file.size > part_bytes and not reader.has_ranges()
    lines = begin.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if whole or is_packed(begin) or (lines and not lines.startswith(b"{")):
        return [(None, None)]
    return [(start, min(start + part_bytes, file.size)) for start in range(0, file.size, part_bytes)]
