"""Writers, rotators and a killer that do as they like: what was written is there once, what was lost is counted."""

import gzip
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
import zstandard
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from kill_points import POINTS, kill_at, kill_at_event
from log_yard import Yard, line, lines, once

PACKERS = {
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
MOMENTS = st.one_of(
    st.tuples(st.sampled_from(sorted(POINTS)), st.booleans(), st.sampled_from([1, 1, 1, 2, 3])),
    st.integers(1, 5000),
)
CHOICE = st.integers(0, 1 << 20)


class Writers(RuleBasedStateMachine):
    """What they do, and a model of what is to be found afterwards.

    `held` are the numbers of the lines that must be in the dataset, each once. `rest` has, for each file (by its inode)
    whose last line has no end, the bytes that are missing. `lost` is what was seen and destroyed unread. A pass follows
    each step; what is written and destroyed between two of them, nobody has seen, and it is no part of `lost`.
    """

    n_checked = 0
    n_killed: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.yard = Yard(Path(self.folder.name))
        self.yard.restart(max_line_bytes=4096)
        self.number = self.n_names = self.lost = self.n_bad = 0
        self.held: list[int] = []
        self.rest: dict[int, bytes] = {}
        self.partial: dict[int, tuple[int, int]] = {}

    def teardown(self):
        if hasattr(self, "yard"):
            self.yard.close()
            self.folder.cleanup()

    @property
    def live(self):
        return self.yard.logs / "app.log"

    def files(self, packed=False):
        found = (path for path in self.yard.logs.rglob("*") if path.is_file() and path != self.live)
        return sorted(path for path in found if (path.suffix in PACKERS) == packed)

    def chosen(self, choice, packed=False):
        files = self.files(packed) + (self.files(True) if packed is None else [])
        return files[choice % len(files)] if files else None

    def name(self, suffix=""):
        self.n_names += 1
        return self.yard.logs / f"app.log.r{self.n_names}{suffix}"

    def numbers(self, count):
        self.number += count
        return list(range(self.number - count, self.number))

    def write(self, path, numbers):
        """Append whole lines, after the end of one that has none yet."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            inode = os.fstat(file.fileno()).st_ino
            file.write(self.rest.pop(inode, b"") + lines(numbers))
        begun = self.partial.pop(inode, None)
        return numbers if begun is None else [begun[0], *numbers]

    def complete(self, path):
        if path.exists() and path.stat().st_ino in self.rest:
            self.held += self.write(path, [])

    def forget(self, path):
        """Note that this name of a file is about to be destroyed; with its last one goes what was not read."""
        self.end_what_tells_too_little(path)
        status = path.stat()
        if status.st_nlink == 1:
            self.rest.pop(status.st_ino, None)
            self.lost += self.partial.pop(status.st_ino, (0, 0))[1]

    def end_what_tells_too_little(self, path):
        """A short beginning that is destroyed, and comes again, can't be told: it gets its end, and is read, before."""
        status = path.stat()
        if self.partial.get(status.st_ino, (0, 0))[1] == status.st_size < 64:
            self.complete(path)
            self.yard.run()

    def pause(self):
        """Let the clock that stamps files tick: the one that was stepped tells nothing of it."""
        if self.yard.now is not None:
            time.sleep(0.012)

    # Writing

    @rule(count=st.integers(1, 40))
    def append(self, count):
        self.held += self.write(self.live, self.numbers(count))

    # Numbered, and from the start: a file that begins as another did may be a copy of it, which is waited for.
    @rule(
        bad=st.sampled_from([b"{no JSON %d", b"\0\xff%d", b"%d" + b"x" * 5000, b'{"a": %d}']), count=st.integers(0, 3)
    )
    def append_bad(self, bad, count):
        self.held += self.write(self.live, self.numbers(count))
        with self.live.open("ab") as file:
            file.write(bad % self.n_bad + b"\n")
        self.n_bad += 1

    @rule(share=st.floats(0.05, 0.95))
    def append_part(self, share):
        self.complete(self.live)
        self.part(self.live, share)

    def part(self, path, share):
        (number,) = self.numbers(1)
        whole = line(number)
        cut = int(len(whole) * share)
        with path.open("ab") as file:
            file.write(whole[:cut])
            inode = os.fstat(file.fileno()).st_ino
        self.rest[inode], self.partial[inode] = whole[cut:], (number, cut)

    @rule(choice=CHOICE)
    def end_a_line_in_a_rotated_file(self, choice):
        unended = [path for path in self.files() if path.stat().st_ino in self.rest]
        if unended:
            self.complete(unended[choice % len(unended)])

    @rule(count=st.integers(1, 20), suffix=st.sampled_from(["", *PACKERS]), below=st.sampled_from(["", "x", "x/y"]))
    def appear_by_rename(self, count, suffix, below):
        numbers = self.numbers(count)
        data = lines(numbers)
        made = self.yard.root / "made"
        made.write_bytes(PACKERS[suffix](data) if suffix else data)
        target = self.yard.logs / below / self.name(suffix).name
        target.parent.mkdir(parents=True, exist_ok=True)
        made.rename(target)
        self.held += numbers

    # Rotation

    @rule(end_line=st.booleans())
    def rotate_by_rename(self, end_line):
        if self.live.exists():
            if end_line:
                self.complete(self.live)
            self.live.rename(self.name())

    @rule(times=st.integers(1, 5), counts=st.lists(st.integers(1, 5), min_size=5, max_size=5))
    def rotate_by_number(self, times, counts):
        """Each file becomes the next, perhaps several times before anyone looks."""
        for count in counts[:times]:
            if not self.live.exists():
                return
            chain = [self.live]
            while chain[-1].exists():
                chain.append(self.yard.logs / f"app.log.{len(chain)}")
            for older, newer in zip(reversed(chain), list(reversed(chain))[1:], strict=False):
                newer.rename(older)
            self.held += self.write(self.live, self.numbers(count))

    @rule(looks=st.tuples(st.booleans(), st.booleans()), unseen=st.integers(0, 5))
    def rotate_by_copy(self, looks, unseen):
        if not self.live.exists():
            return
        self.complete(self.live)
        if unseen:
            self.held += self.write(self.live, self.numbers(unseen))
        data, copy = self.live.read_bytes(), self.name()
        if looks[0]:
            copy.write_bytes(data[: len(data) // 2])
            self.yard.run()
        copy.write_bytes(data)
        if looks[1]:
            self.yard.run()
        os.truncate(self.live, 0)

    @rule(choice=CHOICE, suffix=st.sampled_from(sorted(PACKERS)), look=st.booleans(), beside=st.booleans())
    def compress(self, choice, suffix, look, beside):
        path = self.chosen(choice)
        if path is None:
            return
        self.complete(path)
        packed = PACKERS[suffix](path.read_bytes())
        target = path.with_name(path.name + suffix)
        if beside:
            # To another name, which then takes its place, as `zstd` and careful rotators do.
            (self.yard.root / "packed").write_bytes(packed)
            (self.yard.root / "packed").rename(target)
        else:
            if look:
                target.write_bytes(packed[: len(packed) // 2])
                self.yard.run()
            target.write_bytes(packed)
        path.unlink()

    # Other names

    @rule(choice=CHOICE)
    def drop_again(self, choice):
        path = self.chosen(choice, packed=None)
        if path is not None:
            self.complete(path)
            copy = self.name(path.suffix if path.suffix in PACKERS else "")
            shutil.copyfile(path, copy)

    @rule(choice=CHOICE, live=st.booleans())
    def link(self, choice, live):
        path = self.live if live else self.chosen(choice)
        if path is not None and path.exists():
            self.name().hardlink_to(path)

    @rule(choice=CHOICE, back=st.booleans(), look=st.booleans())
    def move_directory(self, choice, back, look):
        """Of the files in it nothing tells that they were moved but where they are."""
        inner = sorted(path for path in self.yard.logs.rglob("*") if path.is_dir())
        if not inner:
            return
        path = inner[choice % len(inner)]
        target = self.yard.root / "away" if back else self.yard.logs / f"moved{self.n_names}"
        self.n_names += 1
        path.rename(target)
        if look:
            self.yard.run()
        if back:
            target.rename(path)

    # Destruction

    @rule(choice=CHOICE)
    def delete(self, choice):
        path = self.chosen(choice, packed=None)
        if path is not None:
            self.pause()
            self.forget(path)
            path.unlink()

    @rule(choice=CHOICE)
    def remove_directory(self, choice):
        inner = sorted(path for path in self.yard.logs.iterdir() if path.is_dir())
        if inner:
            self.pause()
            path = inner[choice % len(inner)]
            for file in path.rglob("*"):
                if file.is_file():
                    self.forget(file)
                    file.unlink()
            shutil.rmtree(path)

    @rule(
        unseen=st.integers(0, 5),
        how=st.sampled_from(["truncate", "same size", "longer", "replace", "delete"]),
        count=st.integers(1, 20),
    )
    def destroy(self, unseen, how, count):
        """With what nobody saw (and which is gone for good), and the beginning of a line that was seen."""
        if not self.live.exists():
            return
        self.pause()
        self.end_what_tells_too_little(self.live)
        inode, links = self.live.stat().st_ino, self.live.stat().st_nlink
        if how in ("replace", "delete") and links > 1:
            return
        size = self.live.stat().st_size
        if unseen:
            with self.live.open("ab") as file:
                file.write(self.rest.get(inode, b"") + lines(self.numbers(unseen)))
        self.rest.pop(inode, None)
        self.lost += self.partial.pop(inode, (0, 0))[1]
        self.put_instead(how, count, size)

    def put_instead(self, how, count, size):
        if how == "delete":
            self.live.unlink()
            return
        numbers = [] if how == "truncate" else self.numbers(count)
        data = lines(numbers)
        if how == "longer":
            while len(data) <= size:
                numbers += self.numbers(count)
                data = lines(numbers)
        elif how == "same size":
            numbers, data = [], b""
            while not numbers or size - len(data) >= 400:
                numbers += self.numbers(1)
                data += line(numbers[-1])
            # To the byte, where it is not shorter than one line.
            if size - len(data) >= len(line(self.number, note="")):
                numbers += self.numbers(1)
                data += line(numbers[-1], note="x" * (size - len(data) - len(line(numbers[-1], note=""))))
        if how == "replace":
            (self.yard.root / "new").write_bytes(data)
            (self.yard.root / "new").rename(self.live)
        else:
            self.live.write_bytes(data)
        self.held += numbers

    # The reader

    @rule(seconds=st.sampled_from([-86_400.0, -5.0, 0.0, 5.0, 86_400.0]))
    def step_the_clock(self, seconds):
        self.yard.now = time.time() + seconds if seconds else None

    @rule()
    def restart(self):
        self.yard.restart()

    @rule(
        moments=st.lists(MOMENTS, min_size=1, max_size=3),
        count=st.integers(0, 40),
        share=st.sampled_from([0.0, 0.5, 0.9]),
        then=st.sampled_from(["nothing", "rename", "copy", "gzip", "zstd", "truncate", "delete", "replace"]),
    )
    def kill(self, moments, count, share, then):
        """The reader is killed, and what it was reading is rotated away, or destroyed, before it comes back."""
        if self.live.exists():
            self.end_what_tells_too_little(self.live)
        inode = self.live.stat().st_ino if self.live.exists() else 0
        partial = self.partial.get(inode, (0, 0))[1]
        start = self.live.stat().st_size - partial if inode else 0
        maybe = self.write(self.live, self.numbers(count))
        if share:
            self.part(self.live, share)
        inode = self.live.stat().st_ino
        self.yard.close()
        for moment in moments:
            self.live_and_die(moment)
        data = self.live.read_bytes()
        destroyed = then in ("truncate", "delete", "replace") and self.live.stat().st_nlink == 1
        if destroyed:
            self.pause()
            self.rest.pop(inode, None)
            self.partial.pop(inode, None)
            self.put_instead(then, 3, len(data))
        else:
            self.held += maybe
            if then not in ("nothing", "truncate", "delete", "replace"):
                self.complete(self.live)
                data, target = self.live.read_bytes(), self.name({"gzip": ".gz", "zstd": ".zst"}.get(then, ""))
                if then == "rename":
                    self.live.rename(target)
                elif then == "copy":
                    shutil.copyfile(self.live, target)
                    os.truncate(self.live, 0)
                else:
                    target.write_bytes(PACKERS[target.suffix](data))
                    self.live.unlink()
        self.yard.restart()
        if destroyed:
            self.settle_what_was_read(maybe, partial, data[start:])

    def live_and_die(self, moment):
        """One life of another process, which may come to its end before it is killed."""
        child = os.fork()
        if not child:
            try:
                if isinstance(moment, int):
                    kill_at_event(moment)
                else:
                    kill_at(*moment)
                self.yard.restart()
                for _ in range(2):
                    self.yard.run()
                self.yard.store.sync()
                self.yard.close()
                os._exit(0)
            except BaseException as error:  # noqa: BLE001 (a fork must not go on as its parent)
                sys.stderr.write(f"{moment} {error!r}\n")
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            Writers.n_killed["any moment" if isinstance(moment, int) else moment[0]] += 1
        else:
            assert os.WEXITSTATUS(status) == 0

    def settle_what_was_read(self, maybe, partial, data):
        """How far the killed process had committed, only the dataset tells; what is lost follows from that."""
        self.yard.run()
        seen = self.yard.seen()
        read = [number for number in maybe if seen[number]]
        assert read == maybe[: len(read)]
        self.held += read
        end = 0
        for _ in read:
            end = data.index(b"\n", end) + 1
        # If it committed nothing of this file, then perhaps not even that it had grown.
        possible = {len(data) - end} if read else {partial, len(data)}
        lost = self.yard.store.counts().lost_bytes - self.lost
        assert lost in possible
        self.lost += lost

    @precondition(lambda self: hasattr(self, "yard"))
    @invariant()
    def everything_once(self):
        Writers.n_checked += 1
        report = self.yard.run()
        assert self.yard.seen() == once(self.held)
        counts = self.yard.store.counts()
        assert (report.lost_bytes, counts.lost_bytes) == (self.lost, self.lost)
        assert counts.n_total_ingested == len(self.held)
        assert (counts.n_duplicates, counts.n_quarantined) == (0, self.n_bad)
        assert counts.n_lines == len(self.held) + self.n_bad


@pytest.mark.parametrize("n_steps", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_writers_rotators_and_a_killer_that_do_as_they_like(n_steps):
    chosen = random.randrange(1 << 32)
    sys.stdout.write(f"seed {chosen}\n")
    Writers.n_checked, Writers.n_killed = 0, Counter()
    run_state_machine_as_test(
        seed(chosen)(Writers),
        settings=settings(
            max_examples=max(30, n_steps // 40),
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            print_blob=True,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
        ),
    )
    sys.stdout.write(f"{Writers.n_checked} steps, {Writers.n_killed.total()} kills: {dict(Writers.n_killed)}\n")
    assert Writers.n_checked >= n_steps
    assert Writers.n_killed.total() >= n_steps // 40
