"""The package's face and its inner arrows."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import estheory

ROOT = Path(estheory.__file__).parent

MAY_IMPORT = {
    "theory": {"theory"},
    "derivations": {"theory", "derivations"},
    "diagnosis": {"theory", "diagnosis"},
    "tasks": {"tasks"},
    "testing": {"theory", "simulation", "diagnosis", "testing"},
    "models": {"models"},
    "runs": {"tasks", "theory", "runs"},
    "simulation": {"theory", "models", "simulation"},
    "measurement": {"models", "tasks", "runs", "theory", "measurement"},
    "validation": {"diagnosis", "theory", "simulation", "runs", "models", "measurement", "validation"},
    "reporting": {"derivations", "diagnosis", "theory", "simulation", "runs", "measurement", "validation", "reporting"},
    "training": {"models", "tasks", "runs", "theory", "measurement", "training"},
    "integrations": {"theory", "integrations"},
}
"""Rooms that each room may import from, beside the modules at the top of the package."""


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "estheory":
                names = [f"estheory.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "estheory" and len(parts) > 1 and (ROOT / parts[1]).is_dir():
                yield parts[1]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_point_one_way(room):
    for path in (ROOT / room).rglob("*.py"):
        outside = set(imported_rooms(path)) - MAY_IMPORT[room]
        assert not outside, f"{path.relative_to(ROOT)} imports {outside}"


def imported_modules(path, names):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                if name in names:
                    yield name


def test_no_modules_import_one_another():
    """Imports inside functions count: a circle of modules has no order in which to read them."""
    paths = {".".join(p.relative_to(ROOT.parent).with_suffix("").parts): p for p in ROOT.rglob("*.py")}
    paths = {name: path for name, path in paths.items() if not name.endswith("__init__")}
    order = TopologicalSorter({name: set(imported_modules(path, paths)) for name, path in paths.items()})
    assert list(order.static_order())  # CycleError names a circle


def test_every_room_has_its_arrows():
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert rooms - {"cli"} == set(MAY_IMPORT)  # the command line may use everything


FACES = {"__init__.py", "__main__.py", "demo.py"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("*.py")), ids=lambda path: path.name)
def test_the_vocabulary_imports_no_room(path):
    """errors, quantities, rules, landscape and the like come before every room."""
    assert path.name in FACES or not set(imported_rooms(path))


def test_the_vocabulary_has_an_order():
    """errors imports nothing of the package; files and rules only errors."""
    for name, allowed in (("errors", set()), ("files", {"errors"}), ("rules", {"errors"})):
        tree = ast.walk(ast.parse((ROOT / f"{name}.py").read_text()))
        modules = {node.module for node in tree if isinstance(node, ast.ImportFrom) and node.module}
        assert {m.split(".")[1] for m in modules if m.startswith("estheory.")} <= allowed


@pytest.mark.parametrize("room", ["theory", "simulation", "diagnosis", "runs", "validation", "tasks"])
def test_no_torch_in_these_rooms(room):
    for path in (ROOT / room).rglob("*.py"):
        if path.name == "torch_direct.py":  # the optional backend, imported when --device asks for it
            continue
        assert "import torch" not in path.read_text(), path


def test_a_configuration_is_read_by_its_attributes():
    """Only runs/ knows the keys of config.toml."""
    looks_up = re.compile(r"""config(\[|\.get\()["']""")
    found = [path.relative_to(ROOT) for path in ROOT.rglob("*.py") if looks_up.search(path.read_text())]
    assert {path.parts[0] for path in found} <= {"runs", "models"}  # models: Hugging Face's config.json


def test_the_map_of_the_house_names_files_that_exist():
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walk = text[text.index("## Four commands") : text.index("## A new quantity")]
    named = set(re.findall(r"`((?:\w+/)+\w*(?:\.py)?)`", walk))
    assert len(named) > 25
    assert [name for name in named if not (ROOT / name).exists() and not name.startswith("runs/es")] == []
    assert [room for room in MAY_IMPORT if f"`{room}/`" not in text] == []


def test_the_map_of_the_house_names_objects_where_they_are():
    """What stands before a file in brackets, or is said to be in it, is defined there."""
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    walk = " ".join(text[text.index("## Four commands") : text.index("## A new quantity")].split())
    placed = re.findall(r"`([\w.]+)` (?:\(|in )`([\w/]+\.py)", walk) + [
        (name, file) for file, name in re.findall(r"`([\w/]+\.py)`: `(\w+)`", walk)
    ]
    assert len(placed) > 25
    for name, file in placed:
        body: list[ast.stmt] = ast.parse((ROOT / file).read_text()).body
        for part in name.split("."):
            found = [n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == part]
            assert found, f"{file} does not define {name}"
            body = found[0].body


def test_predict_passes_through_every_file_that_its_map_names():
    text = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    command, walk = re.search(r"`estheory (predict [^`]+)`\n(.+?)\n`estheory run", text, re.S).groups()
    code = (
        "import sys\nfrom estheory.cli.app import main\nseen = set()\n"
        "sys.setprofile(lambda frame, event, _: seen.add(frame.f_code.co_filename))\n"
        f"main({command.split()!r})\nsys.setprofile(None)\nprint(*seen, sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    named = set(re.findall(r"`((?:cli|theory|reporting)/[\w/]+\.py)`", walk))
    assert len(named) > 10
    assert {name for name in named if str(ROOT / name) not in done.stderr.split("\n")} == set()


NEED_TORCH = {"interpolate_checkpoints", "task_evaluator", "token_kl"}


def test_the_version_has_one_value():
    version = re.search(r'^version = "(.*)"$', (ROOT.parent / "pyproject.toml").read_text(), re.M)[1]
    assert f"\nversion: {version}\n" in (ROOT.parent / "CITATION.cff").read_text()
    assert re.search(r"^## (\S+)", (ROOT.parent / "CHANGELOG.md").read_text(), re.M)[1] == version


def test_the_conda_environment_asks_for_what_the_package_offers():
    found = pytest.importorskip("yaml").safe_load((ROOT.parent / "environment.yml").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert found["name"] == project["name"]
    [python, pip, packages] = found["dependencies"]
    assert pip == "pip"
    assert project["requires-python"].removeprefix(">=") == python.removeprefix("python=")
    [extra] = re.findall(r"^\.\[(\w+)\]$", "\n".join(packages["pip"]), re.M)
    assert extra in project["optional-dependencies"]


def test_public_names_resolve():
    for name in set(estheory.__all__) - NEED_TORCH:
        assert getattr(estheory, name) is not None
    with pytest.raises(AttributeError):
        _ = estheory.nothing


def test_public_names_of_real_models_resolve():
    pytest.importorskip("torch")
    for name in NEED_TORCH:
        assert getattr(estheory, name) is not None


def test_type_checkers_see_every_public_name():
    """The list, the homes and what type checkers read are one."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    read = {node.module: tuple(a.name for a in node.names) for node in block.body if isinstance(node, ast.ImportFrom)}
    homes = estheory._HOMES
    assert {home: sorted(names) for home, names in read.items()} == {h: sorted(n) for h, n in homes.items()}
    assert sorted(estheory.__all__) == sorted(name for names in homes.values() for name in names)


LOADED = """
import sys
import estheory
{use}
print(sorted(m for m in ({names}) if m in sys.modules))
"""
USES = {
    "nothing": ("", ("numpy", "typer", "torch")),
    "predict": (
        "estheory.predict(estheory.ESConfig(dim=1000, sigma=0.01, population=30, steps=10))",
        ("torch", "transformers", "sympy", "scipy.stats", "typer", "rich"),
    ),
    "published": (
        "estheory.judge(estheory.published_pairs().pairs)",
        ("torch", "transformers", "sympy", "scipy.stats"),
    ),
    "evidence": (
        "[estheory.recorded_pairs, estheory.measure_displacements, estheory.checkpoint_weights, estheory.simulate]",
        ("torch", "transformers", "sympy"),
    ),
    "control": ("import sympy", ("torch", "sympy")),
}


@pytest.mark.parametrize("name", USES)
def test_what_a_use_leaves_alone(name):
    use, modules = USES[name]
    code = LOADED.format(use=use, names=", ".join(map(repr, modules)) + ",")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("['sympy']" if name == "control" else "[]")
