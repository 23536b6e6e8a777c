"""What 10,000 pullers of one store cost: measured for one, simulated for all.

``make bench-fleet`` prints two tables, kept apart. The first is measured: the real push and pull against a web server
on this machine, requests and bytes counted by the server, heads included. The second is a discrete-event simulation of
the loop of ``streamtrain pull --every`` (its own jitter and back-off) with what was measured; the time of a request,
the prices and the number of publishes are assumptions, printed beside it.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from machine import REPOSITORY, describe

sys.path.append(str(REPOSITORY / "tests"))
from fleet_server import Server, until
from make_candidate import make_candidate

from streamtrain.fleet.follow import after_failures, jittered
from streamtrain.fleet.mirror import Mirror
from streamtrain.fleet.pull import Puller
from streamtrain.fleet.push import push
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry

MONTH_S = 30 * 86400
WARM_UP_S = 1800.0
POLLS, PULLS = 500, 30


@dataclass(frozen=True)
class Cost:
    """Of one pull, as the server saw it; times of the puller."""

    requests: float
    bytes: float
    wall_ms: float
    processor_ms: float


def measured(puller: Puller, server: Server, times: int, before) -> Cost:
    found = []
    for _ in range(times):
        before()
        n_requests, n_bytes = len(server.requests), server.sent_bytes
        wall, processor = time.perf_counter(), time.thread_time()
        puller.once()
        spent = (time.perf_counter() - wall, time.thread_time() - processor)
        found.append((len(server.requests) - n_requests, server.sent_bytes - n_bytes, *(1e3 * one for one in spent)))
    return Cost(*(median(column) for column in zip(*found, strict=True)))


def measure(input_dim: int) -> dict[str, Cost]:
    with TemporaryDirectory(prefix="bench-fleet-") as name:
        folder, seeds = Path(name), iter(range(1_000_000))
        url = f"file://{folder / 'store'}"
        with Registry(folder / "trainer") as registry, Server(folder / "store") as server:

            def publish() -> None:
                registry.publish(registry.stage(build(make_candidate(next(seeds), input_dim))))
                push(registry.models_dir, url)

            def step_back_or_forth() -> None:
                names = registry.names()
                registry.promote(names[-2] if registry.current() == names[-1] else names[-1])
                push(registry.models_dir, url)

            publish()
            with Mirror(folder / "models") as mirror:
                puller = Puller(server.url, mirror)
                puller.once()
                costs = {
                    "a new version": measured(puller, server, PULLS, publish),
                    "back to one that is kept": measured(puller, server, PULLS, step_back_or_forth),
                    "nothing new": measured(puller, server, POLLS, lambda: None),
                }
                puller.close()
    return costs


def process() -> tuple[float, float]:
    """Resident MiB of `streamtrain pull --every 1` after some polls, and processor seconds a thousand of them take."""
    with TemporaryDirectory(prefix="bench-fleet-") as name:
        folder = Path(name)
        with Registry(folder / "trainer") as registry, Server(folder / "store") as server:
            registry.publish(registry.stage(build(make_candidate(0))))
            push(registry.models_dir, f"file://{folder / 'store'}")
            words = [sys.executable, "-m", "streamtrain", "pull", server.url, str(folder / "models"), "--every", "0.1"]
            with subprocess.Popen(words, stderr=subprocess.DEVNULL) as puller:
                until(lambda: len(server.requests) > 50)
                first, n_first = processor_s(puller.pid), len(server.requests)
                until(lambda: len(server.requests) > 250)
                spent, n_polls = processor_s(puller.pid) - first, len(server.requests) - n_first
                status = Path(f"/proc/{puller.pid}/status").read_text()
                puller.send_signal(signal.SIGTERM)
            resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return resident / 1024, 1000 * spent / n_polls


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Fleet:
    """What is simulated."""

    n: int
    every_s: float
    has_jitter: bool
    starts_within_s: float
    request_s: float
    n_requests: int
    outage_s: float = 0.0


@dataclass(frozen=True)
class Seen:
    """Requests a second before the publish (mean, peak) and after it (peak), and when so many are in step."""

    steady: float
    peak_before: int
    peak_after: int
    in_step_s: tuple[float, float, float]


def simulate(fleet: Fleet, seed: int) -> Seen:
    rng = random.Random(seed)
    published = WARM_UP_S + rng.uniform(0, fleet.every_s)
    returns = published + fleet.outage_s
    queue = [(rng.uniform(0, fleet.starts_within_s), number, 0) for number in range(fleet.n)]
    heapq.heapify(queue)
    seconds: Counter[int] = Counter()
    done: list[float] = []

    def request_s() -> float:
        return fleet.request_s * rng.uniform(0.5, 1.5)

    while len(done) < fleet.n:
        now, number, n_failures = heapq.heappop(queue)
        seconds[int(now)] += 1
        if published <= now < returns:
            pause_s = after_failures(n_failures + 1, fleet.every_s, rng) if fleet.has_jitter else fleet.every_s
            heapq.heappush(queue, (now + pause_s, number, n_failures + 1))
            continue
        sees_it = now >= returns
        now += request_s()
        if sees_it:
            for _ in range(fleet.n_requests - 1):
                seconds[int(now)] += 1
                now += request_s()
            done.append(now - returns)
            continue  # what it does after that is what it did before
        heapq.heappush(queue, (now + (jittered(fleet.every_s, rng) if fleet.has_jitter else fleet.every_s), number, 0))
    before = [seconds[second] for second in range(int(WARM_UP_S) - 600, int(WARM_UP_S))]
    after = [count for second, count in seconds.items() if second >= int(returns)]
    done.sort()
    shares = tuple(done[int(share * fleet.n) - 1] for share in (0.5, 0.99, 1.0))
    return Seen(sum(before) / len(before), max(before), max(after), shares)


def monthly(n: int, every_s: float, poll: Cost, pull: Cost, options: argparse.Namespace) -> tuple[float, float, float]:
    """Requests, GB and dollars a month."""
    n_polls, n_pulls = n * MONTH_S / every_s, n * options.publishes * 30
    requests = n_polls * poll.requests + n_pulls * (pull.requests - poll.requests)
    gigabytes = (n_polls * poll.bytes + n_pulls * pull.bytes) / 1e9
    return requests, gigabytes, requests / 1000 * options.get_price + gigabytes * options.egress_price


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pullers", type=int, default=10_000)
    parser.add_argument("--request-ms", type=float, default=30.0, help="assumed: one request, there and back")
    parser.add_argument("--publishes", type=float, default=24.0, help="assumed: new versions a day")
    parser.add_argument("--get-price", type=float, default=0.0004, help="assumed: dollars for 1,000 GET requests")
    parser.add_argument("--egress-price", type=float, default=0.09, help="assumed: dollars a GB that leaves the store")
    parser.add_argument("--outage-s", type=float, default=600.0, help="how long the store is away in the last rows")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    for name, value in describe().items():
        if name in ("date", "processor", "other load"):
            print(f"{name}: {value}")
    print("\nMeasured, one puller against a server on this machine (medians; bytes that the server sent, heads too)")
    print(f"{'':34}{'requests':>9}{'bytes':>9}{'wall ms':>9}{'processor ms':>14}")
    costs = {}
    for label, input_dim in (("5 features", 5), ("384 features", 384)):
        costs[input_dim] = measure(input_dim)
        for what, cost in costs[input_dim].items():
            row = f"{cost.requests:9.0f}{cost.bytes:9,.0f}{cost.wall_ms:9.1f}{cost.processor_ms:14.2f}"
            print(f"{what + ', ' + label:34}{row}")
    resident, per_thousand = process()
    print(
        f"`pull --every`: {resident:.0f} MiB resident, {per_thousand:.1f} s of a core for 1,000 polls with nothing new"
    )
    pull, poll = costs[5]["a new version"], costs[5]["nothing new"]
    n = options.pullers
    print(f"\nSimulated, {n:,} pullers, {options.seeds} seeds (the worst is shown). Assumed: {options.request_ms:g} ms")
    print("for a request, a store that slows down for nobody, all pullers started within the seconds that are given")
    head = f"{'every':>6}{'jitter':>8}{'started in':>12}{'outage':>8}"
    print(f"{head}{'requests/s':>12}{'peak':>8}{'peak after':>12}{'50 % in step':>14}{'99 %':>9}{'all':>9}")
    rows = [
        (every_s, has_jitter, starts, outage_s)
        for every_s in (10.0, 60.0)
        for has_jitter, starts, outage_s in (
            *((False, 1.0, 0.0), (True, 1.0, 0.0), (False, every_s, 0.0), (True, every_s, 0.0)),
            *((False, every_s, options.outage_s), (True, every_s, options.outage_s)),
        )
    ]
    for every_s, has_jitter, starts, outage_s in rows:
        fleet = Fleet(n, every_s, has_jitter, starts, options.request_ms / 1e3, round(pull.requests), outage_s)
        seen = [simulate(fleet, seed) for seed in range(options.seeds)]
        times = "".join(
            f"{max(one.in_step_s[nth] for one in seen):{width}.1f} s" for nth, width in enumerate((12, 7, 7))
        )
        label = f"{every_s:4.0f} s{'±20 %' if has_jitter else 'none':>8}{starts:10.0f} s{outage_s:6.0f} s"
        figures = f"{max(one.steady for one in seen):12,.0f}{max(one.peak_before for one in seen):8,}"
        print(f"{label}{figures}{max(one.peak_after for one in seen):12,}{times}")
    print("(a row without jitter has no back-off either: it asks on at its interval through the outage)")
    print(f"\nFor each publish: {n * pull.requests:,.0f} requests, {n * pull.bytes / 1e6:,.0f} MB")
    print(
        f"A month of 30 days, {options.publishes:g} publishes a day, at ${options.get_price:g} for 1,000 requests and "
        f"${options.egress_price:g} a GB (assumed)"
    )
    for every_s in (10.0, 60.0, 300.0):
        requests, gigabytes, dollars = monthly(n, every_s, poll, pull, options)
        print(f"  every {every_s:3.0f} s: {requests / 1e6:8,.0f} M requests, {gigabytes:6,.0f} GB, ${dollars:,.0f}")


if __name__ == "__main__":
    main()
