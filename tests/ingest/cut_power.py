"""Cut the power at every write, truncation, sync and removal that SQLite did; then a clean pass must set all right.

What was not synced when the power went may be on the disk or not, each 512-byte sector by itself and in any order. Runs
under `faulty_io.so`. Arguments: folder to work in, seed, number of variants for each moment. Prints JSON.
"""

import ctypes
import json
import random
import sqlite3
import struct
import sys
from contextlib import closing
from pathlib import Path

from fail_every_io import N_ALL, Life, begin, check, copy

SECTOR = 512
HEADER = struct.Struct("=4q")
library = ctypes.CDLL(None)


class Disk:
    """What of one file is surely there, and what may be."""

    def __init__(self) -> None:
        self.safe = bytearray()
        self.pending: list[tuple[str, int, bytes]] = []

    def sync(self) -> None:
        for operation in self.pending:
            apply(self.safe, *operation)
        self.pending = []

    def after_the_cut(self, chance: random.Random) -> bytes | None:
        """One of the states in which the file may be found."""
        data = bytearray(self.safe)
        share = chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        for kind, offset, piece in self.pending:
            if kind == "u":
                if chance.random() < share:
                    return None
            elif kind == "t":
                if chance.random() < share:
                    apply(data, kind, offset, piece)
            else:
                for start in range(0, len(piece), SECTOR):
                    if chance.random() < share:
                        apply(data, kind, offset + start, piece[start : start + SECTOR])
        return bytes(data)


def apply(data: bytearray, kind: str, offset: int, piece: bytes) -> None:
    if kind == "w":
        data.extend(bytes(max(0, offset + len(piece) - len(data))))
        data[offset : offset + len(piece)] = piece
    elif kind == "t":
        del data[offset:]
        data.extend(bytes(offset - len(data)))
    else:
        data.clear()


def operations(trace: bytes) -> list[tuple[str, str, int, bytes]]:
    """Kind, file name, offset or size, bytes."""
    found, place = [], 0
    while place < len(trace):
        kind, n_name, offset, size = HEADER.unpack_from(trace, place)
        place += HEADER.size
        name = trace[place : place + n_name].decode()
        place += n_name
        found.append((chr(kind), Path(name).name, offset, trace[place : place + size]))
        place += size
    return found


def main() -> None:
    folder, chance, n_variants = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    master, root = folder / "master", folder / "root"
    master.mkdir()
    with (folder / "trace").open("wb", buffering=0) as trace:
        library.faulty_watch(str(master / "state.db").encode())
        library.faulty_trace(trace.fileno())
        begin(master)
        life = Life(master, commit_bytes=1 << 11)
        # A checkpoint in the middle, which otherwise comes every 64 MiB.
        life.store._db.execute("PRAGMA wal_autocheckpoint = 12")
        life.run()
        life.close()
        library.faulty_trace(-1)
        library.faulty_watch(b"")
    disks: dict[str, Disk] = {}
    done = operations((folder / "trace").read_bytes())
    kinds = {kind: sum(operation[0] == kind for operation in done) for kind in "wtsu"}
    assert kinds["w"] > 50, kinds
    assert kinds["s"] > 3, kinds
    taken_back = cuts = 0
    for number, (kind, name, offset, piece) in enumerate(done):
        disk = disks.setdefault(name, Disk())
        if kind == "s":
            disk.sync()
        else:
            disk.pending.append((kind, offset, piece))
        for variant in range(n_variants):
            copy(master, root)
            for path in root.glob("state.db*"):
                path.unlink()
            for name_, disk_ in disks.items():
                data = disk_.after_the_cut(chance)
                if data is not None and not name_.endswith("-shm"):
                    (root / name_).write_bytes(data)
            try:
                life = Life(root)
                n_before = life.store.counts().n_total_ingested
                check(life)
                life.close()
                with closing(sqlite3.connect(root / "state.db")) as database:
                    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            except Exception as error:
                error.add_note(f"cut at operation {number} of {len(done)} ({kind} {name}), variant {variant}")
                raise
            cuts += 1
            taken_back += n_before < N_ALL
    json.dump({"cuts": cuts, "behind": taken_back, "operations": kinds}, sys.stdout)


if __name__ == "__main__":
    main()
