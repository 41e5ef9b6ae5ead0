"""docs/architecture.md and the code agree: files, imports, links."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from support.toy_avatars import ROOT

ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
PACKAGES = {p.name: p for p in ROOT.glob("*/*lipsync*") if (p / "__init__.py").is_file()}
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/demo/weights/*.md")]
MODELS_USE = {"av", "cv2", "numpy", "triton_python_backend_utils"}
MOST_ARROWS = 70  # imports from a module of one room of the client to a module of another


@cache
def modules() -> dict[str, Path]:
    """Return the files of all packages by their module's name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if "backends" not in parts:  # a model directory of its own
                found[name] = path
        assert package in found
    return found


def imported(name: str) -> set[str]:
    """Return the modules of this project that a module imports, at its head or in a function."""
    path = modules()[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    targets = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                targets.add(inner if inner in modules() else base)
    return {target for target in targets if target in modules()} - {name}


def top(module: str) -> str:
    return module.partition(".")[0]


def allowed_imports() -> dict[str, set[str]]:
    """Return the table of docs/architecture.md."""
    rows = re.findall(r"^\| `(\w*lipsync\w*)` \| ([^|]+) \|", ARCHITECTURE, re.M)
    return {package: set(re.findall(r"`(\w*lipsync\w*)`", cell)) for package, cell in rows}


def test_every_file_that_is_named_exists() -> None:
    for page in ("docs/architecture.md", "CONTRIBUTING.md"):
        named = re.findall(r"`([\w.*-]+/[\w./*-]+)`", (ROOT / page).read_text())
        assert named
        assert [name for name in named if not list(ROOT.glob(name.rstrip("/")))] == [], page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    lost = [x for x in links if "://" not in x and not (page.parent / x).exists()]
    assert lost == []


def test_packages_import_what_the_table_allows() -> None:
    allowed = allowed_imports()
    assert set(PACKAGES) <= set(allowed), "a package has no row in docs/architecture.md"
    for module in modules():
        own = top(module)
        others = {top(target) for target in imported(module)} - {own}
        assert others <= allowed[own], f"{module} imports {sorted(others - allowed[own])}"


def test_the_library_of_the_client_starts_no_server() -> None:
    others = {"lipsync_embedded", "lipsync_preprocessing"}
    users = [m for m in modules() if others & set(map(top, imported(m))) - {top(m)}]
    assert [m for m in users if m.startswith("lipsync_client.") and "._cli." not in m] == []
    assert [m for m in users if m.startswith("lipsync_embedded.")] == ["lipsync_embedded.cli"]


def test_no_imports_go_in_a_circle() -> None:
    graph = {
        module: {t for t in imported(module) if t != top(module)}  # the package's own list of names
        for module in modules()
        if module != top(module)
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_few_imports_lead_from_room_to_room_of_the_client() -> None:
    def room(module: str) -> str:
        parts = module.split(".")
        return parts[1] if len(parts) > 1 and (PACKAGES[parts[0]] / parts[1]).is_dir() else ""

    shared = {"lipsync_client._errors", "lipsync_client.protocol"}
    assert not any(imported(module) for module in shared)
    arrows = {
        f"{module} -> {target}"
        for module in modules()
        if module.startswith("lipsync_client.")
        for target in imported(module) - shared
        if top(target) == "lipsync_client" and room(target) != room(module)
    }
    print(f"{len(arrows)} arrows between rooms")
    assert len(arrows) <= MOST_ARROWS, sorted(arrows)


@pytest.mark.parametrize("folder", sorted(ROOT.glob("model_repository/*/1")), ids=str)
def test_model_directories_stand_alone(folder: Path) -> None:
    beside = {path.stem for path in folder.glob("*.py")}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path  # Triton loads model.py as a module of no package
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in map(top, names):
                assert name in beside or name in sys.stdlib_module_names or name in MODELS_USE, name
