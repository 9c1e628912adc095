"""The NumPy sections of docstrings in theory, the derivations and the vocabulary.

``Parameters`` has an entry for each parameter, ``Returns`` or ``Yields`` one for what comes back, ``Raises`` one for
each error, ``Attributes`` one for each field of a class. A function whose text says that parameters and result are as
of another one, and a method that overrides one, have the sections of that. What theory computes names its label and its
source in ``Notes``, or says there that it is a choice.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from typing import get_args

import pytest

from estheory.quantities import Label
from tests.test_docstrings import ROOT, functions, unsaid_errors

VOCABULARY = ("landscape", "laws", "cosine_laws", "rules", "quantities", "floats", "estimates", "_special")
COMPLETE = sorted(
    p for room in ("theory", "derivations") for p in (ROOT / room).glob("*.py") if p.name != "__init__.py"
)
COMPLETE += [ROOT / f"{name}.py" for name in VOCABULARY]
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
AS_ANOTHER = re.compile(r"Parameters (?:and result )?as of :(?:func|meth):`([\w.]+)`")
LABELS = "|".join(get_args(Label))
SOURCE = re.compile(r"Source: (?:arXiv:\d{4}\.\d{5}|ours: docs/(?P<page>[\w/-]+\.md))")
CARRIES_ITS_OWN = {"Prediction", "ProbedPrediction", "Forecast"}
NOT_COMPUTED = {"None", "bool", "str", "Landscape", "Signal", "RewardModel", "WeightHistogram", "FloatFormat"}
NOT_COMPUTED |= {"OffTask", "Arm", "StepRule", "OutOfRange", "Counter", "int"}
CONTAINERS = {"tuple", "list", "dict", "Mapping", "Iterator"}
"""Return types of theory's functions that need no label: they carry one, are an input, or say no number."""


def raised_errors(node: ast.FunctionDef) -> list[str]:
    """Return the errors of this package that a function raises itself: all are unsaid where there is no docstring."""
    bare = copy.copy(node)
    bare.body = node.body[1:] if ast.get_docstring(node) else node.body
    return unsaid_errors(bare)


def sections(text: str) -> dict[str, str]:
    """Return the NumPy sections of a docstring by title."""
    parts = SECTION.split(text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def entries(section: str) -> set[str]:
    """Return the names that a section explains: of its lines without indent, what comes before a colon."""
    lines = [line for line in section.splitlines() if line and not line.startswith(" ")]
    return {name.strip().lstrip("*") for line in lines for name in line.split(" : ")[0].split(",")}


def incomplete(node: ast.FunctionDef, known: dict[str, ast.FunctionDef]) -> list[str]:
    """Return what the sections of a docstring lack: parameters and errors by name, or ``Returns``.

    Parameters
    ----------
    node
        The function.
    known
        Every function that a docstring may refer to, by its dotted name within the package.
    """
    text = ast.get_docstring(node) or ""
    if (other := AS_ANOTHER.search(text)) is not None:
        referred = [f for name, f in known.items() if f".{name}".endswith("." + other[1].removeprefix("estheory."))]
        lacking = {a for f in referred for a in names(f)} ^ set(names(node))
        return [f"as of {other[1]}"] if len(referred) != 1 or lacking else []
    found = sections(text)
    missing = sorted(set(names(node)) - entries(found.get("Parameters", "")))
    missing += sorted(entries(found.get("Parameters", "")) - set(names(node)))
    missing += sorted(set(raised_errors(node)) - entries(found.get("Raises", "")))
    is_property = any(isinstance(d, ast.Name) and d.id.endswith("property") for d in node.decorator_list)
    returned = "" if node.returns is None else ast.unparse(node.returns)
    if returned != "None" and not is_property and not found.keys() & {"Returns", "Yields"}:
        missing.append("Returns")
    return missing


def classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    """Yield the public classes of a module."""
    return (node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))


def unlisted(node: ast.ClassDef) -> list[str]:
    """Return the fields of a class that its ``Attributes`` do not have."""
    fields = [f.target.id for f in node.body if isinstance(f, ast.AnnAssign) and isinstance(f.target, ast.Name)]
    public = {name for name in fields if not name.startswith("_")}
    return sorted(public - entries(sections(ast.get_docstring(node) or "").get("Attributes", "")))


def quotations(text: str) -> list[str]:
    """Return the lines that Markdown takes for a quotation."""
    return re.findall(r"^ *>(?!>>).*", text, re.MULTILINE)


def names(node: ast.FunctionDef) -> list[str]:
    """Return the names of a function's parameters."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    return [a.arg for a in arguments if a is not None and a.arg not in ("self", "cls")]


def overrides(qualified: str, bases: dict[str, list[str]], known: dict[str, ast.FunctionDef]) -> bool:
    """Say whether a method is one of a base class of this package, whose docstring is that of all."""
    owner, _, method = qualified.rpartition(".")
    parents = bases.get(owner, [])
    return any(
        any(name.endswith(f".{parent}.{method}") for name in known) or overrides(f"{parent}.{method}", bases, known)
        for parent in parents
    )


def unlabelled(node: ast.FunctionDef) -> list[str]:
    """Return what a function of theory that computes something does not say in ``Notes``: its label, its source."""
    returned = {n.id for n in ast.walk(node.returns) if isinstance(n, ast.Name)} if node.returns else set()
    if isinstance(node.returns, ast.Constant) or not returned - CONTAINERS - NOT_COMPUTED or returned & CARRIES_ITS_OWN:
        return []
    notes = " ".join(sections(ast.get_docstring(node) or "").get("Notes", "").split())
    if notes.startswith("No label: a declared choice"):
        return []
    source = SOURCE.search(notes)
    missing = [] if re.search(rf"Label: [^.]*\b({LABELS})\b", notes) else ["label"]
    if source is None or (source["page"] and not (ROOT.parent / "docs" / source["page"]).is_file()):
        missing.append("source")
    return missing


KNOWN: dict[str, ast.FunctionDef] = {}
BASES: dict[str, list[str]] = {}
for _path in COMPLETE:
    _tree = ast.parse(_path.read_text(encoding="utf-8"))
    _module = ".".join(_path.relative_to(ROOT).with_suffix("").parts)
    KNOWN |= {f"{_module}.{name}": node for name, node in functions(_tree)}
    BASES |= {
        c.name: [b.id for b in c.bases if isinstance(b, ast.Name)] for c in _tree.body if isinstance(c, ast.ClassDef)
    }


@pytest.mark.parametrize("path", COMPLETE, ids=lambda p: str(p.relative_to(ROOT)))
def test_sections_are_complete(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {name: incomplete(node, KNOWN) for name, node in functions(tree) if not overrides(name, BASES, KNOWN)}
    found |= {node.name: unlisted(node) for node in classes(tree)}
    assert {name: row for name, row in found.items() if row} == {}


@pytest.mark.parametrize("path", COMPLETE, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_line_of_text_is_a_quotation_to_markdown(path):
    """The site would swallow the sign of a line such as "> 0"."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    texts = (ast.get_docstring(n) or "" for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, documented))
    assert [line for text in texts for line in quotations(text)] == []


def test_a_quotation_is_found():
    assert quotations("Positive.\n    > 0.\n>>> 1 > 0") == ["    > 0."]


@pytest.mark.parametrize("path", sorted((ROOT / "theory").glob("*.py")), ids=lambda p: p.name)
def test_what_theory_computes_has_label_and_source(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {node.name: unlabelled(node) for name, node in functions(tree) if "." not in name}
    assert {name: row for name, row in found.items() if row} == {}


def test_the_check_can_fail():
    tree = ast.parse(
        'def f(width: float, config: ESConfig) -> float:\n    """Return it."""\n    raise DataError("a", "b")'
    )
    [(_, node)] = functions(tree)
    assert incomplete(node, {}) == ["config", "width", "DataError", "Returns"]
    assert unlabelled(node) == ["label", "source"]


COMPLETE_TEXT = """Return it.

    Parameters
    ----------
    width, config
        Both.

    Returns
    -------
    float
        Weight units.

    Raises
    ------
    DataError
        Always.

    Notes
    -----
    Label: exact. Source: ours: docs/concepts/walk.md.
    """


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("", "", []),
        ("width, config", "width", ["config"]),
        ("width, config", "width, config, depth", ["depth"]),
        ("Returns\n    -------", "Returned\n    --------", ["Returns"]),
        ("DataError\n", "ConfigError\n", ["DataError"]),
        ("Parameters\n    ----------", "Parameters", ["config", "width"]),
        ("Label: exact", "Exact", ["label"]),
        ("Label: exact", "Label: good", ["label"]),
        ("ours: docs/concepts/walk.md", "ours", ["source"]),
        ("walk.md", "stroll.md", ["source"]),
    ],
)
def test_a_gap_in_a_complete_docstring_is_found(old, new, missing):
    text = COMPLETE_TEXT.replace(old, new) if old else COMPLETE_TEXT
    code = f'def f(width: float, config: ESConfig) -> float:\n    """{text}"""\n    raise DataError("a", "b")'
    [(_, node)] = functions(ast.parse(code))
    assert incomplete(node, {}) + unlabelled(node) == missing


def test_a_field_that_is_not_listed_is_found():
    text = "A size.\n\n    Attributes\n    ----------\n    width\n        Weight units.\n    "
    [node] = classes(ast.parse(f'class Size:\n    """{text}"""\n    width: float\n    depth: float\n    _known: int'))
    assert unlisted(node) == ["depth"]


def test_a_reference_must_have_the_same_parameters():
    code = "def f(width): ...\ndef g(width): ...\ndef h(depth): ..."
    code = code.replace(": ...", ':\n    """Return it.\n\n    Parameters and result as of :func:`f`."""')
    known = {f"module.{name}": node for name, node in functions(ast.parse(code))}
    assert [incomplete(known[f"module.{name}"], known) for name in "gh"] == [[], ["as of f"]]
    assert incomplete(known["module.g"], {}) == ["as of f"]  # refers to nothing
