"""The C header, compiled as strictly as `cc` can and run beside the router's scoring."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from make_candidate import make_candidate

from streamtrain.export.c_header import to_c_header
from streamtrain.export.source import read_source
from streamtrain.model.forward import logits, sigmoid, step
from streamtrain.router.load import load
from streamtrain.types import Scaling

from .conftest import raw_vectors, undecided

STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror")
CHECKED = ("-O1", "-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all")

# Reads rows of float32, writes for each its confidence and, by the rule of the header, the decision.
SCORE = """
#define STREAMTRAIN_FLOAT
#include "model.h"
#include <stdio.h>
int main(void)
{
    float raw[STREAMTRAIN_FEATURES];
    int32_t x[STREAMTRAIN_FEATURES], answer[2];
    while (fread(raw, sizeof raw, 1, stdin) == 1) {
        if (!streamtrain_from_float(raw, x))
            return 3;
        answer[0] = streamtrain_score(x);
        answer[1] = streamtrain_use_lightweight(answer[0]);
        fwrite(answer, sizeof answer, 1, stdout);
    }
    return 0;
}
"""
# The same rows as steps of one session.
STEP = SCORE.replace("answer[2];", "answer[2];\n    streamtrain_session session = {{0}};").replace(
    "streamtrain_score(x)", "streamtrain_step(&session, x)"
)
# What firmware would call: whole numbers only.
FIRMWARE = """
#include "model.h"
int32_t confidence_of(const int32_t *x);
int32_t confidence_of(const int32_t *x) { return streamtrain_score(x); }
"""
FIRMWARE_SESSIONS = FIRMWARE.replace("const int32_t *x", "streamtrain_session *s, const int32_t *x").replace(
    "streamtrain_score(x)", "streamtrain_step(s, x)"
)


@pytest.fixture
def cc(tmp_path, unavailable):
    """Compile a header with a program; return the path of what came out."""
    if shutil.which("cc") is None:
        unavailable("cc is not installed")

    def compiled(header: str, program: str, *flags: str) -> str:
        (tmp_path / "model.h").write_text(header, encoding="ascii")
        (tmp_path / "main.c").write_text(program, encoding="ascii")
        out = tmp_path / "main"
        done = subprocess.run(
            ["cc", *STRICT, *flags, "main.c", "-o", out], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return str(out)

    return compiled


def answers(program: str, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    done = subprocess.run([program], input=raw.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    both = np.frombuffer(done.stdout, np.int32).reshape(-1, 2)
    return both[:, 0] / 2**20, both[:, 1].astype(bool)


def lightweight(confidence: np.ndarray) -> np.ndarray:
    return (confidence >= 0.85) & (1 - 2 * np.abs(confidence - 0.5) <= 0.15)


CANDIDATES = {
    "H16": undecided(make_candidate(1)),
    "H8": undecided(make_candidate(2, hidden_dim=8)),
    "nu-zeta": undecided(make_candidate(3, nu=0.7, zeta=1.3)),
    "wide": undecided(make_candidate(4, input_dim=64, hidden_dim=32)),
    "far-from-zero": undecided(
        make_candidate(5), scaling=Scaling(np.array([1e6, -3e4, 0.0, 0.5, 4e10]), np.array([2.0, 0.5, 1.0, 0.01, 1e8]))
    ),
    "unscaled": undecided(make_candidate(6), scaling=Scaling(np.zeros(5), np.ones(5))),
}


@pytest.mark.parametrize("flags", [("-O2",), ("-Os",), CHECKED], ids=["O2", "Os", "sanitized"])
@pytest.mark.parametrize("name", CANDIDATES)
def test_it_decides_as_the_router(publish, cc, name, flags):
    """On 10,000 vectors of which half are routed each way: at least 99.9 % of decisions agree."""
    candidate = CANDIDATES[name]
    models = publish(candidate)
    program = cc(to_c_header(read_source(models), sessions=False).text, SCORE, *flags)
    raw = raw_vectors(candidate.scaling, 10_000)
    confidence, decided = answers(program, raw)
    ours = load(models).score_batch(raw)
    error = np.abs(confidence - ours).max()
    agreeing = np.mean(decided == lightweight(ours))
    sys.stdout.write(f"{name}: max error {error:.2g}, {100 * agreeing:.2f} % of decisions agree\n")
    assert 0.2 < decided.mean() < 0.8
    assert agreeing >= 0.999
    assert error <= (5e-5 if name == "wide" else 1.5e-5)


@pytest.mark.parametrize("flags", [("-O2",), CHECKED], ids=["O2", "sanitized"])
def test_sessions_carry_their_state(publish, cc, flags):
    """10,000 steps of one session: rounding must not add up."""
    candidate = CANDIDATES["H16"]
    source = read_source(publish(candidate))
    raw = raw_vectors(candidate.scaling, 10_000)
    confidence, _ = answers(cc(to_c_header(source, sessions=True).text, STEP, *flags), raw)
    z = (raw - candidate.scaling.means) / candidate.scaling.stds
    h, expected = np.zeros((1, 16)), np.empty(len(z))
    for t in range(len(z)):
        h = step(source.params, z[t : t + 1], h)
        expected[t] = sigmoid(logits(source.params, h))[0]
    np.testing.assert_allclose(confidence, expected, rtol=0, atol=3e-5)
    alone = sigmoid(logits(source.params, step(source.params, z, np.zeros((len(z), 16)))))
    assert np.abs(alone - expected).max() > 0.05


def test_numbers_out_of_range_stay_defined(publish, cc):
    """The largest whole numbers there are, and floats beyond them, under the sanitizers."""
    candidate = CANDIDATES["H16"]
    program = cc(to_c_header(read_source(publish(candidate)), sessions=False).text, SCORE, *CHECKED)
    largest = np.finfo(np.float32).max
    raw = np.array([[sign * x] * 5 for x in (largest, 1e10, 130.0, np.inf) for sign in (1, -1)], np.float32)
    confidence, _ = answers(program, raw)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    not_a_number = np.array([[0.1, 0.2, np.nan, 0.4, 0.5]], np.float32)
    assert subprocess.run([program], input=not_a_number.tobytes()).returncode == 3


def test_the_longest_sums_do_not_overflow(publish, cc):
    """1,536 features at the end of their range, each with the largest weight, under the sanitizers."""
    candidate = make_candidate(7, input_dim=1536, hidden_dim=2)
    largest = {name: np.full_like(weight, 127) for name, weight in candidate.quantized.weights.items()}
    quantized = replace(candidate.quantized, weights=largest)
    scaling = Scaling(np.zeros(1536), np.ones(1536))
    models = publish(replace(candidate, quantized=quantized, scaling=scaling))
    program = cc(to_c_header(read_source(models), sessions=False).text, SCORE, *CHECKED)
    raw = np.full((2, 1536), 1e10, np.float32) * np.array([[1], [-1]], np.float32)
    confidence, _ = answers(program, raw)
    np.testing.assert_allclose(confidence, load(models).score_batch(raw), rtol=0, atol=1e-5)


@pytest.mark.parametrize("sessions", [False, True])
def test_h16_d5_fits_in_two_kilobytes(publish, cc, tmp_path, sessions):
    """Weights and constants, as the compiler lays them out, are what the command prints, and under 2 KB."""
    header = to_c_header(read_source(publish(CANDIDATES["H16"])), sessions=sessions)
    cc(header.text, FIRMWARE_SESSIONS if sessions else FIRMWARE, "-Os", "-c", "-fno-unroll-loops")
    listed = subprocess.run(["size", "-A", tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    sizes = {name: int(size) for name, size in re.findall(r"^\.(rodata\S*|data\S*|bss\S*) +(\d+)", listed, re.M)}
    constants = sum(sizes.values())
    payload = header.weight_bytes + header.constant_bytes
    sys.stdout.write(f"sessions={sessions}: payload {payload} bytes said, {constants} in the object: {sizes}\n")
    assert payload <= constants + 7  # the output's scale and bias may be part of the code
    assert constants <= payload + 256  # where x86 aligns each table to 32 bytes
    assert constants <= 2048


@pytest.mark.parametrize("level", ["-O0", "-Os", "-O2"])
@pytest.mark.parametrize("sessions", [False, True])
def test_the_stack_is_within_what_is_said(publish, cc, tmp_path, sessions, level):
    """The deepest chain of calls, frame by frame, beside the figure that is printed."""
    header = to_c_header(read_source(publish(CANDIDATES["H16"])), sessions=sessions)
    cc(header.text, FIRMWARE_SESSIONS if sessions else FIRMWARE, level, "-c", "-fstack-usage")
    (usage,) = tmp_path.glob("*.su")
    frames = {}
    for line in usage.read_text().splitlines():
        where, size, kind = line.split("\t")
        assert kind == "static"
        frames[re.sub(r"\..*", "", where.rsplit(":", 1)[1])] = int(size)
    deepest = ("confidence_of", "streamtrain_score", "streamtrain_step", "streamtrain_run", "streamtrain_gate",
               "streamtrain_tanh", "streamtrain_product", "streamtrain_rounded")  # fmt: skip
    used = sum(frames.get(name, 0) for name in deepest)
    sys.stdout.write(f"{level} sessions={sessions}: {used} bytes of stack, {header.stack_bytes} said\n")
    assert used <= header.stack_bytes


HOSTILE = (
    "*/ int main(void) { return 7; } /*",
    "line\nbreak\r#error \\",
    "trigraph ??/\nand \\u002a/",
    "‮reversed \x00 \x1b[31m",
    "a" * 5000,
)


def test_names_in_comments_are_harmless(publish, cc):
    candidate = replace(CANDIDATES["H16"], features=HOSTILE)
    header = to_c_header(read_source(publish(candidate)), sessions=False).text
    assert header.isascii()
    assert header[: header.index("#ifndef")].count("*/") == 1
    assert max(map(len, header.splitlines())) <= 160
    raw = raw_vectors(candidate.scaling, 10)
    confidence, _ = answers(cc(header, SCORE, "-O1"), raw)
    assert len(confidence) == 10


def test_it_comes_out_the_same_and_two_go_into_one_program(publish, cc, tmp_path):
    source = read_source(publish(CANDIDATES["H16"]))
    header = to_c_header(source, sessions=True).text
    assert header == to_c_header(source, sessions=True).text
    (tmp_path / "other.h").write_text(to_c_header(source, sessions=True, name="router_v2").text, encoding="ascii")
    both = FIRMWARE.replace("#include", '#include "other.h"\n#include')
    cc(header, both.replace("streamtrain_score(x);", "streamtrain_score(x) + router_v2_score(x);"), "-c")


@pytest.mark.parametrize("name", ["", "9lives", "a b", "x;y", "é", "a" * 41])
def test_a_name_that_is_no_identifier_is_refused(publish, name):
    source = read_source(publish(CANDIDATES["H16"]))
    with pytest.raises(ValueError, match="name is"):
        to_c_header(source, sessions=False, name=name)


def test_a_feature_that_32_bits_cannot_tell_apart_is_refused(publish):
    scaling = Scaling(np.array([0.0, 3e9, 0, 0, 0]), np.ones(5))
    source = read_source(publish(replace(CANDIDATES["H16"], scaling=scaling)))
    with pytest.raises(ValueError, match=r"'feature_1' has mean 3e\+09 and std 1"):
        to_c_header(source, sessions=False)
