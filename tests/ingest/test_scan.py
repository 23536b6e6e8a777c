"""Listing a directory: what is chosen, in which order, and nothing beyond it."""

import os
import shutil
from pathlib import Path

import pytest

from streamtrain.ingest.scan import Chosen, scan


def names(directory, **options):
    return [os.path.relpath(found.path, directory) for found in scan(directory, **options).files]


@pytest.fixture
def tree(tmp_path):
    plain = ["b.jsonl", "a.jsonl", "app.log", "app.log.1", "app.log.2.gz", "x/c.ndjson", "x/y/d.json"]
    left = ["e.txt", ".f.jsonl", "g.jsonl.tmp", "h.jsonl.part", "i.jsonl~", ".hidden/j.jsonl"]
    for number, name in enumerate([*plain, *left, "k.json.gz"]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
        os.utime(path, (100 - number, 100 - number))
    return tmp_path


def test_logs_sorted_by_time_then_name(tree):
    expected = ["k.json.gz", "x/y/d.json", "x/c.ndjson", "app.log.2.gz", "app.log.1", "app.log", "a.jsonl", "b.jsonl"]
    assert names(tree) == expected
    for name in expected:
        os.utime(tree / name, (5, 5))
    assert names(tree) == sorted(expected)


def test_patterns_for_names_and_paths(tree):
    assert names(tree, include=("*.jsonl",), exclude=()) == [".hidden/j.jsonl", ".f.jsonl", "a.jsonl", "b.jsonl"]
    assert names(tree, include=("x/*",), exclude=()) == ["x/y/d.json", "x/c.ndjson"]
    assert names(tree, include=("/a.jsonl",)) == ["a.jsonl"]
    assert names(tree, exclude=("x",))[0] == "k.json.gz"
    assert not any(name.startswith("x/") for name in names(tree, exclude=("x", ".*")))
    assert names(tree, include=()) == []


def test_chosen_says_the_same_as_a_scan(tree):
    for include, exclude in (("*.jsonl*", "*.json"), (".*",)), (("x/*",), ("y",)), (("*",), ("x/y", "*.log*")):
        chosen = Chosen(include, exclude)
        everything = [str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()]
        found = names(tree, include=include, exclude=exclude)
        assert sorted(found) == sorted(name for name in everything if chosen.would_find(name))


def test_links_are_not_followed_but_the_directory_may_be_one(tree, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.jsonl").write_bytes(b"1")
    (tree / "linked.jsonl").symlink_to(outside / "secret.jsonl")
    (tree / "linked").symlink_to(outside)
    (tree / "loop").symlink_to(tree)
    before = len(names(tree))
    listing = scan(tree)
    assert len(listing.files) == before == 8
    assert [Path(path).name for path, _ in listing.refused] == ["linked.jsonl"]
    (outside / "way").symlink_to(tree)
    assert len(scan(outside / "way").files) == 8


def test_a_link_put_in_a_directorys_place_leads_nowhere(tree, tmp_path_factory, monkeypatch):
    """Swapped between listing the directory and entering it, by someone with bad intent and good timing."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.jsonl").write_bytes(b"1")
    real = os.open

    def swap(path, *given, **more):
        if path == "y":
            shutil.rmtree(tree / "x" / "y")
            (tree / "x" / "y").symlink_to(outside)
        return real(path, *given, **more)

    monkeypatch.setattr(os, "open", swap)
    listing = scan(tree)
    assert not any("secret" in found.path for found in listing.files)
    assert not listing.complete
    assert [path for path, _ in listing.refused] == [str(tree / "x" / "y")]


def test_a_missing_directory_is_empty_and_not_complete(tmp_path):
    listing = scan(tmp_path / "absent")
    assert (listing.files, listing.complete) == ((), False)
    assert listing.refused == ((str(tmp_path / "absent"), "No such file or directory"),)


def test_names_of_any_bytes(tmp_path):
    raw = os.fsencode(tmp_path) + b"/\xff\n\x1b[31m.jsonl"
    with open(raw, "wb") as file:  # noqa: PTH123 (a path of bytes)
        file.write(b"1")
    assert os.fsencode(scan(tmp_path).files[0].path) == raw


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_may_not_be_listed(tree):
    (tree / "x").chmod(0)
    try:
        listing = scan(tree)
    finally:
        (tree / "x").chmod(0o700)
    assert not listing.complete
    assert listing.refused == ((str(tree / "x"), "Permission denied"),)
    assert len(listing.files) == 6
