"""The public names with their parameters, against the committed list: nothing is renamed by accident.

After a change that is meant, ``python -m tests.test_public_names`` writes the list again; the diff then shows it.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest

import estheory

ROOT = Path(estheory.__file__).parent
LIST = Path(__file__).with_name("public_names.txt")
ROOMS = (
    ".",
    "theory",
    "derivations",
    "simulation",
    "measurement",
    "models",
    "tasks",
    "validation",
    "evidence",
    "integrations",
)


def parameters(item: object) -> str:
    """Return the parameters of a function or class as ``(a, b, *, c)``; empty where it has no signature of its own."""
    if inspect.isclass(item) and issubclass(item, Exception | str):
        return ""
    try:
        plain = [p.replace(annotation=inspect.Parameter.empty) for p in inspect.signature(item).parameters.values()]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    shown = [p.replace(default=...) if p.default is not inspect.Parameter.empty else p for p in plain]
    return str(inspect.Signature(shown)).replace("=Ellipsis", "=...")


def public_names() -> list[str]:
    """Return a line for each public function and class, and for each public method."""
    lines = [f"estheory: {', '.join(sorted(estheory.__all__))}"]
    for room in ROOMS:
        for path in sorted((ROOT / room).glob("*.py")):
            if path.stem.startswith("_"):
                continue
            name = ".".join(["estheory", *(() if room == "." else (room,)), path.stem])
            module = import_module(name)
            for key, item in sorted(vars(module).items()):
                if key.startswith("_") or getattr(item, "__module__", None) != name:
                    continue
                if not inspect.isclass(item) and not inspect.isfunction(item):
                    continue
                lines.append(f"{name}.{key}{parameters(item)}")
                for method, function in sorted(vars(item).items()) if inspect.isclass(item) else ():
                    if method.startswith("_"):
                        continue
                    if isinstance(function, property):
                        lines.append(f"{name}.{key}.{method}")
                    elif inspect.isfunction(function) or isinstance(function, classmethod | staticmethod):
                        lines.append(f"{name}.{key}.{method}{parameters(getattr(item, method))}")
    return lines


def test_the_public_names_are_those_of_the_list():
    pytest.importorskip("transformers")
    known, now = LIST.read_text(encoding="utf-8").splitlines(), public_names()
    assert set(known) - set(now) == set(), "gone or changed"
    assert set(now) - set(known) == set(), "new: python -m tests.test_public_names"


if __name__ == "__main__":
    LIST.write_text("\n".join(public_names()) + "\n", encoding="utf-8")
