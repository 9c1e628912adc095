"""What can be wrong with a file: drawn by hypothesis, for every reader and for the command line."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
import warnings

from hypothesis import settings
from hypothesis import strategies as h

from estheory.cli.app import main

CODES = {0, 2, 3, 4}
"""Exit codes of a command that was not interrupted and has no bug."""


def examples(few):
    """Settings of a fuzz test: ``few`` examples, the same ones each time; ESTHEORY_FUZZ=N asks for N fresh ones."""
    wanted = int(os.environ.get("ESTHEORY_FUZZ", "0"))
    return settings(max_examples=wanted or few, derandomize=not wanted, deadline=None, database=None)


TOKENS = h.sampled_from(
    [
        *(b"NaN", b"-Infinity", b"1e999", b"1" * 5000, b"-1", b"0", b"null", b"true", b'""', b"{}", b"[]", b"[[", b"}"),
        *(
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"\x00",
            b"\xff\xfe",
            b"\xed\xa0\x80",
            b"\xef\xbb\xbf",
            b"\n",
            b"\r\n",
            b",",
        ),
        *(b'"\\ud800"', b"=", b"[[x]]", b"99999999999999999999", b"1e308", b"1e-320", b"../../etc", b"\n\n\n"),
    ]
)

EDITS = h.lists(
    h.tuples(
        h.sampled_from(["flip", "cut", "drop", "insert", "repeat", "line"]), h.floats(0, 1), h.floats(0, 1), TOKENS
    ),
    min_size=1,
    max_size=4,
)


def bent(raw, edits):
    """Return bytes with places changed, cut, dropped, inserted, doubled, or one line doubled."""
    for kind, where, length, token in edits:
        at = int(where * len(raw))
        end = at + 1 + int(length * min(40, len(raw)))
        if kind == "flip" and at < len(raw):
            raw = raw[:at] + bytes([raw[at] ^ (1 << int(length * 7))]) + raw[at + 1 :]
        elif kind == "cut":
            raw = raw[:at]
        elif kind == "drop":
            raw = raw[:at] + raw[end:]
        elif kind == "insert":
            raw = raw[:at] + token + raw[at:]
        elif kind == "repeat":
            raw = raw[:at] + raw[at:end] * 3 + raw[end:]
        elif kind == "line":
            lines = raw.split(b"\n")
            k = min(int(where * len(lines)), len(lines) - 1)
            raw = b"\n".join([*lines[:k], lines[k], *lines[k:]])
    return raw


VALUES = h.one_of(
    h.sampled_from(
        [
            *(None, True, False, 0, 1, -1, 2, 10**6, 10**18, 10**400, -(10**400), 0.5, 1e308, -1e308, 1e-320),
            *(float("nan"), float("inf"), "", "x", "0", "\x00", "../..", "\ud800", [], {}, [[]], [None], [1, "x"]),
            *({"a": 1}, [float("nan")], [1e308] * 3, "nan", "1e999"),
        ]
    ),
    h.integers(-5, 40),
    h.floats(),
    h.text(max_size=5),
)

CHANGES = h.lists(
    h.tuples(h.sampled_from(["value", "value", "value", "delete", "double", "rename"]), h.floats(0, 1), VALUES),
    min_size=1,
    max_size=3,
)


def _places(content, here=()):
    """Yield the path of every value in a JSON document, containers too."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*here, key)
        yield from _places(value, (*here, key))


def changed(content, changes):
    """Return a JSON document with values replaced, deleted, doubled or renamed, anywhere in it."""
    content = copy.deepcopy(content)
    for kind, where, value in changes:
        places = list(_places(content))
        if not places:
            return value
        *parents, key = places[min(int(where * len(places)), len(places) - 1)]
        holder = content
        for parent in parents:
            holder = holder[parent]
        if kind == "delete":
            del holder[key]
        elif kind == "double" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == "rename" and isinstance(holder, dict):
            holder[f"{key}x"] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(value)
    return content


def written(content):
    """Return JSON as bytes, half surrogates and all."""
    return json.dumps(content).encode("utf-8", "surrogatepass")


def bent_json(raw, edits, changes):
    """Return a damaged JSON file: its values changed where ``changes`` are given, else its bytes."""
    return written(changed(json.loads(raw), changes)) if changes else bent(raw, edits)


def bent_lines(raw, edits, changes):
    """Return a damaged JSON-lines file."""
    if not changes:
        return bent(raw, edits)
    rows = changed([json.loads(line) for line in raw.splitlines()], changes)
    return b"".join(written(row) + b"\n" for row in (rows if isinstance(rows, list) else [rows]))


_TOML_LINE = re.compile(rb"^([\w-]+ *= *)(.*)$", re.MULTILINE)


def bent_toml(raw, edits, changes):
    """Return a damaged TOML file of one key a line."""
    if not changes:
        return bent(raw, edits)
    lines = raw.splitlines()
    for _, where, value in changes:
        k = min(int(where * len(lines)), len(lines) - 1)
        if isinstance(value, dict) or value is None:
            lines.pop(k)
        else:
            lines[k] = _TOML_LINE.sub(lambda found, v=value: found[1] + written(v), lines[k])
        if not lines:
            return b""
    return b"\n".join(lines) + b"\n"


DAMAGE = h.tuples(EDITS, h.one_of(h.just([]), CHANGES))


def call(*arguments):
    """Run the program in process; its exit code, stdout and stderr. Warnings of its own code are errors."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning, module="estheory")
        code = main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


def says_one_line(*arguments):
    """Run the program and hold it to its contract; its exit code."""
    code, out, err = call(*arguments)
    assert code in CODES, (code, err)
    assert "Traceback" not in out + err
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == (code == 2), (code, err)
    assert all(line.startswith(("error: ", "warning: ")) for line in lines), err
    assert code != 2 or not out, out
    return code
