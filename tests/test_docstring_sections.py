"""The NumPy sections of the docstrings that people read: of what ``estheory`` exports, of theory, and of data classes.

``Parameters`` has an entry for each parameter, ``Returns`` or ``Yields`` one for what comes back, ``Raises`` one for
each error that a function raises itself, ``Attributes`` one for each field of a data class. A class with an
``__init__`` of its own lists the parameters of that. A function whose text says that parameters, or parameters and
result, are as of another one has the sections of that. What theory computes names its label and its source in
``Notes``, or says there that it is a choice. Elsewhere a sentence is enough. A command's docstring is the text of its
``--help``: each of its options has a help text.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

import estheory
from estheory.quantities import Label

ROOT = Path(estheory.__file__).parent
COMPLETE = sorted(ROOT.rglob("*.py"))
SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
AS_ANOTHER = re.compile(r"Parameters (?P<result>and result )?as of :(?:func|meth):`(?P<name>[\w.]+)`")
ERRORS = {"ConfigError", "DataError", "OutputError", "MissingDependencyError"}
LABELS = "|".join(get_args(Label))
SOURCE = re.compile(r"Source: (?:arXiv:\d{4}\.\d{5}|ours: docs/(?P<page>[\w/-]+\.md))")
CARRIES_ITS_OWN = {"Prediction", "ProbedPrediction", "Forecast"}
NOT_COMPUTED = {"None", "bool", "str", "Landscape", "Signal", "RewardModel", "WeightHistogram", "FloatFormat"}
NOT_COMPUTED |= {"OffTask", "Arm", "StepRule", "OutOfRange", "Counter", "int"}
CONTAINERS = {"tuple", "list", "dict", "Mapping", "Iterator"}
"""Return types of theory's functions that need no label: they carry one, are an input, or say no number."""


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the public functions and methods of a module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from functions(node, f"{node.name}.")
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not _is_setter(node):
            yield prefix + node.name, node


def _is_setter(node: ast.FunctionDef) -> bool:
    return any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in node.decorator_list)


def raised_errors(node: ast.FunctionDef) -> set[str]:
    """Return the errors of this package that a function raises itself, outside inner functions and ``try`` blocks."""
    inner = [f for f in ast.walk(node) if isinstance(f, ast.FunctionDef) and f is not node]
    tried = [part for block in ast.walk(node) if isinstance(block, ast.Try) for part in block.body]
    others = {id(n) for part in (*inner, *tried) for n in ast.walk(part)}
    raised = (n.exc for n in ast.walk(node) if isinstance(n, ast.Raise) and id(n) not in others)
    return {e.func.id for e in raised if isinstance(e, ast.Call) and isinstance(e.func, ast.Name)} & ERRORS


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
    found = sections(text)
    if (groups := option_groups(node)) is not None:
        arguments = [*node.args.args, *node.args.kwonlyargs]
        unexplained = [a.arg for a in arguments[groups:] if not has_help(a.annotation)]
        return sorted(unexplained) + list(found)
    listed, said = entries(found.get("Parameters", "")), entries(found.get("Raises", ""))
    is_property = any(isinstance(d, ast.Name) and d.id.endswith("property") for d in node.decorator_list)
    silent = (node.returns is None or ast.unparse(node.returns) != "None") and not is_property
    if (other := AS_ANOTHER.search(text)) is not None:
        name = "." + other["name"].removeprefix("estheory.")
        referred = [f for known_name, f in known.items() if f".{known_name}".endswith(name)]
        if len(referred) != 1 or set(names(referred[0])) != set(names(node)):
            return [f"as of {other['name']}"]
        listed = set(names(node))
        said |= entries(sections(ast.get_docstring(referred[0]) or "").get("Raises", ""))
        silent = silent and not other["result"]
    missing = sorted(set(names(node)) - listed) + sorted(listed - set(names(node)))
    missing += sorted(raised_errors(node) - said)
    return missing + ["Returns"] * (silent and not any(found.get(title, "").strip() for title in ("Returns", "Yields")))


def option_groups(node: ast.FunctionDef) -> int | None:
    """Return how many groups of options a command takes as its first arguments; None of a function that is none."""
    calls = [d for d in node.decorator_list if isinstance(d, ast.Call)]
    if not any(isinstance(d.func, ast.Attribute) and d.func.attr in ("command", "callback") for d in calls):
        return None
    return sum(len(d.args) for d in calls if isinstance(d.func, ast.Name) and d.func.id == "options")


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax of a file, read once."""
    return ast.parse(path.read_text(encoding="utf-8"))


def has_help(annotation: ast.expr | None) -> bool:
    """Say whether an annotation is that of an option or argument of the command line with a help text.

    An option of two commands has a name that ends in Option.
    """
    if isinstance(annotation, ast.Name) and annotation.id.endswith("Option"):
        return True
    calls = [n for n in ast.walk(annotation) if isinstance(n, ast.Call)] if annotation is not None else []
    options = [n for n in calls if isinstance(n.func, ast.Attribute) and n.func.attr in ("Option", "Argument")]
    helps = [k.value for n in options for k in n.keywords if k.arg == "help"]
    return any(isinstance(value, ast.Constant) and bool(value.value) for value in helps)


def classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    """Yield the public classes of a module."""
    return (node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))


def unlisted(node: ast.ClassDef) -> list[str]:
    """Return the fields that ``Attributes`` lacks, and what ``__init__`` takes and ``Parameters`` lacks."""
    found = sections(ast.get_docstring(node) or "")
    typed = [
        f
        for f in node.body
        if isinstance(f, ast.AnnAssign) and not has_help(f.annotation) and "ClassVar" not in ast.unparse(f.annotation)
    ]
    fields = [f.target.id for f in typed if isinstance(f.target, ast.Name)]
    public = {name for name in fields if not name.startswith("_")}
    init = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
    wanted = {name for f in init for name in names(f)}
    missing = public - entries(found.get("Attributes", "")) | wanted - entries(found.get("Parameters", ""))
    return sorted(missing)


def quotations(text: str) -> list[str]:
    """Return the lines that Markdown takes for a quotation."""
    return re.findall(r"^ *>(?!>>).*", text, re.MULTILINE)


def names(node: ast.FunctionDef) -> list[str]:
    """Return the names of a function's parameters."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    return [a.arg for a in arguments if a is not None and a.arg not in ("self", "cls")]


def overrides(qualified: str, bases: dict[str, list[str]], known: dict[str, ast.FunctionDef]) -> bool:
    """Say whether a method is one of a base class, whose docstring is that of all."""
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
    _tree = tree_of(_path)
    _module = ".".join(_path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    KNOWN |= {f"{_module}.{name}": node for name, node in functions(_tree)}
    BASES |= {
        c.name: [b.id for b in c.bases if isinstance(b, ast.Name)] for c in _tree.body if isinstance(c, ast.ClassDef)
    }


EXPORTED = {f"{home.removeprefix('estheory.')}.{name}" for home, names in estheory._HOMES.items() for name in names}


def is_read(path: Path, name: str) -> bool:
    """Say whether a function or a method is one whose sections are read: theory's, or an export's."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return module.startswith("theory.") or f"{module}.{name.partition('.')[0]}" in EXPORTED


def is_data(node: ast.ClassDef) -> bool:
    """Say whether a class is a data class."""
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def test_sections_are_complete():
    found = {}
    for path in COMPLETE:
        tree = tree_of(path)
        for name, node in functions(tree):
            if option_groups(node) is not None or (is_read(path, name) and not overrides(name, BASES, KNOWN)):
                found[f"{path.relative_to(ROOT)}: {name}"] = incomplete(node, KNOWN)
        for node in classes(tree):
            if is_data(node) or is_read(path, node.name):
                found[f"{path.relative_to(ROOT)}: {node.name}"] = unlisted(node)
    assert {place: row for place, row in found.items() if row} == {}


def test_no_line_of_text_is_a_quotation_to_markdown():
    """The site would swallow the sign of a line such as "> 0"."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    trees = {path: tree_of(path) for path in COMPLETE}
    texts = (
        (path, ast.get_docstring(n) or "") for path in trees for n in ast.walk(trees[path]) if isinstance(n, documented)
    )
    assert [(path.name, line) for path, text in texts for line in quotations(text)] == []


def test_a_quotation_is_found():
    assert quotations("Positive.\n    > 0.\n>>> 1 > 0") == ["    > 0."]


def test_what_theory_computes_has_label_and_source():
    found = {}
    for path in sorted((ROOT / "theory").rglob("*.py")):
        tree = tree_of(path)
        found |= {f"{path.name}: {name}": unlabelled(node) for name, node in functions(tree) if "." not in name}
    assert {place: row for place, row in found.items() if row} == {}


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
        ("float\n        Weight units.\n", "", ["Returns"]),
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


def test_a_parameter_of_init_that_is_not_listed_is_found():
    text = "A size.\n\n    Parameters\n    ----------\n    width\n        Weight units.\n    "
    [node] = classes(ast.parse(f'class Size:\n    """{text}"""\n    def __init__(self, width, *depths): ...'))
    assert unlisted(node) == ["depths"]


COMMAND = '''
@app.command()
@options(CommonOptions)
def lines(common: CommonOptions, start: Annotated[str, typer.Argument(help="A run.")]) -> None:
    """Score a model."""
'''


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("", "", []),
        ("@app.command()\n", "", ["common", "start"]),
        ("@options(CommonOptions)\n", "", ["common"]),
        ('help="A run."', 'metavar="A"', ["start"]),
        ('"A run."', '""', ["start"]),
        ('Score a model."""', 'Score a model.\n\n    Returns\n    -------\n    None\n    """', ["Returns"]),
    ],
)
def test_help_explains_the_parameters_of_a_command(old, new, missing):
    code = COMMAND.replace(old, new) if old else COMMAND
    [(_, node)] = functions(ast.parse(code))
    assert incomplete(node, {}) == missing


def test_help_explains_the_fields_of_a_group_of_options():
    code = 'class Options:\n    level: Annotated[float, typer.Option(help="Level.")] = 0.05\n    seed: int = 0'
    [node] = classes(ast.parse(code))
    assert unlisted(node) == ["seed"]


def test_only_what_a_base_class_has_is_excused():
    known = dict.fromkeys(("module.Base.f", "module.Size.f", "module.Size.g", "module.Other.f"))
    bases = {"Size": ["Middle"], "Middle": ["Base"], "Other": []}
    methods = ("Size.f", "Size.g", "Other.f", "Other.g")
    assert [name for name in methods if overrides(name, bases, known)] == ["Size.f"]


def test_a_reference_must_have_the_same_parameters():
    code = "def f(width): ...\ndef g(width): ...\ndef h(depth): ..."
    code = code.replace(": ...", ':\n    """Return it.\n\n    Parameters and result as of :func:`estheory.room.f`."""')
    known = {f"room.{name}": node for name, node in functions(ast.parse(code))}
    assert [incomplete(known[f"room.{name}"], known) for name in "gh"] == [[], ["as of estheory.room.f"]]
    assert incomplete(known["room.g"], {}) == ["as of estheory.room.f"]  # refers to nothing


def test_a_reference_stands_for_no_more_than_it_says():
    code = '''
def f(width):
    """Return it.

    Raises
    ------
    DataError
        Sometimes.
    """


def g(width):
    """Return it. Parameters and result as of :func:`f`."""
    raise DataError("a", "b")
'''
    for old, new, missing in (
        ("", "", []),
        ("and result ", "", ["Returns"]),
        ('raise DataError("a', 'raise ConfigError("a', ["ConfigError"]),
    ):
        known = {f"room.{name}": node for name, node in functions(ast.parse(code.replace(old, new)))}
        assert incomplete(known["room.g"], known) == missing
