"""The sections of docstrings: all parameters of a function are listed, and what it returns is said."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.test_docstrings import FILES, ROOT, functions

COMPLETE = ("simulation", "measurement")
"""Rooms in which every function has its sections: each parameter, and the result."""
COMPLETE_FILES = sorted(p for room in COMPLETE for p in (ROOT / room).rglob("*.py") if p.name != "__init__.py")


def sections(text: str) -> dict[str, str]:
    """Return the sections of a NumPy docstring by their titles."""
    parts = re.split(r"^(\w+)\n-{3,}$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def unlisted(arguments: ast.arguments, listed: str) -> list[str]:
    """Return the parameters that a section does not list: ``name``, ``name : type`` or ``name, other``."""
    entries = [line.partition(" : ")[0] for line in listed.splitlines() if line and not line.startswith(" ")]
    names = {name.strip().lstrip("*") for entry in entries for name in entry.split(",")}
    extra = [a for a in (arguments.vararg, arguments.kwarg) if a]
    every = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *extra)]
    return [name for name in every if name not in names and name not in ("self", "cls")]


def missing_sections(node: ast.FunctionDef) -> list[str]:
    """Return the parameters that ``Parameters`` lacks, and ``Returns`` where a function of parameters lacks it."""
    found = sections(ast.get_docstring(node) or "")
    missing = unlisted(node.args, found.get("Parameters", ""))
    takes = any(a.arg not in ("self", "cls") for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs))
    gives = node.returns is not None and ast.unparse(node.returns) != "None"
    return missing + ["Returns"] * (takes and gives and not {"Returns", "Yields"} & found.keys())


def classes(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """Yield the public classes that have an ``__init__`` of their own, with it and with their docstring."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                    yield node.name, part, ast.get_docstring(node) or ""


@pytest.mark.parametrize("path", COMPLETE_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_parameters_and_results_have_their_sections(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {name: missing_sections(node) for name, node in functions(tree)}
    found |= {name: unlisted(init.args, sections(text).get("Parameters", "")) for name, init, text in classes(tree)}
    assert {name: row for name, row in found.items() if row} == {}


def test_the_check_of_sections_can_fail():
    whole = '''
def f(width, *, depth):
    """Return it.

    Parameters
    ----------
    width, depth
        Sizes.

    Returns
    -------
    float
    """
'''.replace("):", ") -> float:", 1)
    for text, missing in (
        (whole, []),
        (whole.replace("width, depth\n", "width\n"), ["depth"]),
        (whole.replace("Returns\n    -------", "It is"), ["Returns"]),
        (whole.replace("Parameters\n    ----------", "Takes"), ["width", "depth"]),
        (whole.replace("-> float", "-> None").replace("Returns\n    -------", "It is"), []),
    ):
        [(_, node)] = functions(ast.parse(text))
        assert missing_sections(node) == missing


def incomplete(node: ast.FunctionDef) -> list[str]:
    """Return the parameters that a Parameters section lacks, and ``returns`` where nothing says what is returned.

    A single parameter may be explained by its type or in the text (:func:`unexplained`).
    """
    text = ast.get_docstring(node) or ""
    listed = {name.strip(" *") for names in _listed(text, "Parameters") for name in names.split(",")}
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    wanted = [a.arg for a in arguments if a.arg not in ("self", "cls")]
    lacking = [name for name in wanted if name not in listed] if len(wanted) > 1 else []
    lacking = [] if re.search(r"Parameters (and result )?as (of|there)", text) else lacking
    silent = (
        node.returns is not None
        and ast.unparse(node.returns) != "None"
        and not re.search(
            r"^(Return|Yield|Whether|Read|Measure|Judge|Say|\w[^\n]*:$)|^(Returns|Yields)\n---", text, flags=re.M
        )
    )
    is_property = any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list)
    return lacking + (["returns"] if silent and not is_property else [])


def undocumented_fields(node: ast.ClassDef) -> list[str]:
    """Return the fields of a dataclass that its Attributes section lacks."""
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return []
    listed = {
        name.strip() for names in _listed(ast.get_docstring(node) or "", "Attributes") for name in names.split(",")
    }
    fields = [
        item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    return [name for name in fields if not name.startswith("_") and name not in listed]


def _listed(text: str, section: str) -> list[str]:
    """Return the heads of the entries of a docstring's section, without what follows a colon."""
    found = re.search(rf"^{section}\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", text, flags=re.M | re.S)
    heads = re.findall(r"^(\S.*)$", found[1], flags=re.M) if found else []
    return [head.partition(" : ")[0] for head in heads]


LISTED = ("validation", "evidence")
"""Rooms whose docstrings list all parameters and fields, with what they are and their units."""


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.relative_to(ROOT).parts[0] in LISTED],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_docstrings_are_complete(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {name: incomplete(node) for name, node in functions(tree)}
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    found |= {node.name: undocumented_fields(node) for node in classes}
    assert {name: row for name, row in found.items() if row} == {}


def test_what_is_not_listed_is_found():
    tree = ast.parse('def f(width: float, config: ESConfig) -> float:\n    """Return it."""')
    [(_, node)] = functions(tree)
    assert incomplete(node) == ["width", "config"]
    tree.body[0].body[0] = ast.parse('"""Do it."""').body[0]  # type: ignore[attr-defined]  # the function's docstring
    assert incomplete(node)[-1] == "returns"
    [pair] = ast.parse('@dataclass(frozen=True)\nclass Pair:\n    """A pair."""\n\n    left: int').body
    assert isinstance(pair, ast.ClassDef)
    assert undocumented_fields(pair) == ["left"]
