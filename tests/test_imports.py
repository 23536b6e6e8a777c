"""Imports point down only: the architecture of the README, enforced."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "streamtrain"

# What each part may import of the package, beside itself.
ALLOWED = {
    "types": set(),
    "reading": {"types"},
    "kernels": set(),
    "model": {"types", "kernels"},
    "ingest": {"types", "reading"},
    "dataset": {"types", "reading"},
    "train": {"types", "model", "kernels"},
    "judge": {"types"},
    "publish": {"types", "model"},
    "router": {"types", "model"},
    "export": {"types", "model", "router.load"},
    "foreign": set(),
    "fleet": {"types", "foreign", "model", "publish", "router.load"},
    "fleet.follow": {"fleet", "publish.errors", "ops.logs", "ops.notify"},
    "config": {"ingest.schema"},
    "adoption": {"types", "config", "model", "publish", "outlet"},
    "intake": {"types", "reading", "config", "ingest", "dataset", "train.presets"},
    "aftermath": {"types", "intake", "dataset", "judge"},
    "lessons": {"types", "intake", "aftermath", "dataset", "model", "train", "publish.artifact"},
    "answers": {"types", "dataset", "router"},
    "portrait": {"types", "answers", "dataset", "judge", "router"},
    "outlet": {"types", "config", "model", "publish"},
    "standing": {"config.sections", "dataset.tail", "judge"},
    "prequential": {
        "types",
        "standing",
        "config",
        "intake",
        "aftermath",
        "answers",
        "dataset",
        "judge",
        "model",
        "publish",
        "router",
    },
    "choice": {"types", "judge.paired", "lessons", "train"},
    "exam": {"types", "config", "answers", "dataset", "ingest.golden", "judge", "router"},
    "threshold": {"types", "config", "intake", "judge", "router"},
    "making": {
        *("types", "config", "intake", "model", "kernels.cache", "judge.shift", "train", "publish.artifact"),
    },
    "replay": {
        *("types", "reading", "config", "intake", "lessons", "aftermath", "choice", "making", "outlet"),
        *("ingest", "dataset", "model", "train", "publish"),
    },
    "judging": {
        *("types", "intake", "answers", "exam", "aftermath", "portrait", "threshold"),
        *("dataset.exploration", "judge", "publish", "router"),
    },
    "shelf": {"types", "dataset.tail", "publish.durable"},
    "hearing": {
        *("types", "intake", "exam", "judging", "shelf"),
        *("dataset.select", "ingest.golden", "judge.gate", "model", "publish"),
    },
    "trigger": {"intake", "prequential", "exam", "dataset"},
    "cycle": {
        *(
            "types",
            "config",
            "intake",
            "lessons",
            "exam",
            "outlet",
            "threshold",
            "making",
            "choice",
            "prequential",
            "judging",
            "hearing",
            "trigger",
        ),
        *("aftermath", "portrait", "ingest", "dataset", "model", "train", "publish"),
    },
    "scale": {
        *(
            "types",
            "foreign",
            "reading",
            "config",
            "intake",
            "ingest",
            "dataset",
            "model",
            "kernels",
            "train",
            "publish.artifact",
        ),
        *("cycle", "exam", "judging", "lessons", "making"),
    },
    "router.compiled": {"types", "router", "kernels.request"},
    "ops": {"types", "reading", "config", "intake", "ingest", "dataset", "publish", "outlet", "model"},
    "__main__": {"cli"},
    "daemon": {
        "types",
        "config",
        "cycle",
        "dataset.errors",
        "intake",
        "lessons",
        "outlet",
        "publish.registry",
        "ingest.watch",
        "ingest.ingestor",
        "train.meter",
        "ops",
        "publish.errors",
        "publish.lock",
    },
    "showcase": set(),
}
# The compiler must never be loaded by what reads logs or serves.
WITHOUT_NUMBA = [
    *(
        "router.router",
        "router.load",
        "router.lines",
        "intake",
        "ops.status",
        "ops.front",
        "publish.registry",
        "outlet",
        "cli",
    ),
    *("fleet.push", "fleet.pull", "fleet.follow"),
    *("adoption", "export.source", "export.onnx_graph", "export.c_header"),
]


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def dotted(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                found.add("a relative import")
            elif node.module == "streamtrain":
                found.update(alias.name for alias in node.names)
            elif (node.module or "").startswith("streamtrain."):
                prefix = (node.module or "").removeprefix("streamtrain.")
                found.update(
                    f"{prefix}.{alias.name}" if (PACKAGE / prefix.replace(".", "/") / f"{alias.name}.py").exists()
                    else prefix
                    for alias in node.names
                )  # fmt: skip
        elif isinstance(node, ast.Import):
            found.update(a.name.removeprefix("streamtrain.") for a in node.names if a.name.startswith("streamtrain"))
    return found


def part_of(module: str) -> str:
    return module.split(".")[0]


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_imports_point_down(path):
    part = part_of(dotted(path))
    if part == "cli":
        return
    for name in imported(path) - {"__version__"}:
        allowed = ALLOWED.get(dotted(path), ALLOWED[part]) | {part}
        assert any(name == one or name.startswith(f"{one}.") for one in allowed), f"{dotted(path)} imports {name}"


def test_every_part_has_a_rule():
    assert {part_of(dotted(path)) for path in modules()} == {*map(part_of, ALLOWED), "cli"}


@pytest.mark.parametrize("path", [p for p in modules() if part_of(dotted(p)) == "kernels"], ids=dotted)
def test_kernels_import_only_numba_numpy_and_the_standard_library(path):
    outside = {"numpy", "numba", "llvmlite", "streamtrain"}
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            assert part_of(name) in outside | set(sys.stdlib_module_names), name


@pytest.mark.parametrize("module", WITHOUT_NUMBA)
def test_the_compiler_is_not_loaded(module):
    code = f"import sys, streamtrain.{module}; sys.exit('numba' in sys.modules or 'llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, streamtrain; sys.exit(bool({'numpy', 'numba', 'msgspec', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_serving_loads_neither_signatures_nor_the_network_before_they_are_needed():
    code = "import sys, streamtrain.router.router; sys.exit(bool({'cryptography', 'ssl', 'http'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "module", ["", ".cli", ".cli.fleet", ".daemon", ".router.router", ".fleet.http", ".fleet.pull", ".cli.scale"]
)
def test_what_only_the_fleet_and_the_farm_need_is_not_loaded(module):
    absent = {"fsspec", "aiohttp", "s3fs", "dask", "distributed", "tornado"}
    code = f"import sys, streamtrain{module}; sys.exit(' '.join({absent} & set(sys.modules)) or None)"
    ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_who_may_name_fsspec_and_dask():
    allowed = {"fsspec": ("fleet.filesystem", "scale.files"), "dask": ("scale",), "distributed": ("scale",)}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in map(part_of, names):
                places = allowed.get(name, (dotted(path),))
                assert any(f"{dotted(path)}.".startswith(f"{one}.") for one in places), f"{dotted(path)}: {name}"
