"""From a matplotlib figure to one inline SVG string: deterministic, accessible, following the page's colours."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from estheory.errors import MissingDependencyError
from estheory.reporting.page.theme import DARK, LIGHT, css_variables, themed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 360.0
"""Width of every figure in SVG units: that of a phone, where the text is as large as in print."""

NAMESPACE = "http://www.w3.org/2000/svg"
_REFERENCE = re.compile(r"(url\(|^)#([\w.-]+)")
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: selectable, in the page's font and colour
    "svg.hashsalt": "estheory",
    "text.parse_math": False,  # a $ in a name is a $
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.8,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), LIGHT["text"]),
    **dict.fromkeys(("xtick.color", "ytick.color", "axes.titlecolor"), LIGHT["text"]),
}


@contextmanager
def new_figure(height: float, more: Mapping[str, Any] | None = None) -> Iterator[Figure]:
    """Yield an empty figure of ``WIDTH`` x ``height`` SVG units under the package's style.

    `more`: settings of matplotlib beside the style's.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("figures need matplotlib", "pip install 'estheory[plots]'") from None
    with matplotlib.rc_context(_RC | dict(more or {})):
        yield Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")


def to_svg(figure: Figure, title: str, description: str) -> str:
    """Return the figure as one ``<svg>`` element.

    `figure`: a figure of :func:`new_figure`, still inside its ``with`` block.
    `description`: the figure in words, for whoever cannot see it.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser picks the font, not matplotlib
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    title, description = printable(title), printable(description)
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in [key for key in element.attrib if key.startswith("{")]:  # xlink:href
            element.set(key.rpartition("}")[2], element.attrib.pop(key))
        if element.tag != "text" and not (element.text or "").strip():
            element.text = None
        element.tail = None
        if "style" in element.attrib:  # the page's colours and font
            element.set("style", re.sub(r"font-family:[^;]*;?", "", themed(element.attrib["style"])))
    width, height = root.attrib["viewBox"].split()[2:]
    root.attrib = {
        "xmlns": NAMESPACE,
        "viewBox": root.attrib["viewBox"],
        "width": width,
        "height": height,
        "role": "img",
        "aria-label": f"{title}. {description}",
        "font-family": "system-ui, sans-serif",
        "stroke-linejoin": "round",
    }
    for text, tag in ((description, "desc"), (title, "title")):
        element = ElementTree.Element(tag)
        element.text = text
        root.insert(0, element)
    _private_ids(root)
    return ElementTree.tostring(root, encoding="unicode")


_SCHEME = (
    f"svg {{ background: {LIGHT['paper']}; color: {LIGHT['text']}; {css_variables(LIGHT)} }} "
    "@media (prefers-color-scheme: dark) "
    f"{{ svg {{ background: {DARK['paper']}; color: {DARK['text']}; {css_variables(DARK)} }} }}"
)


def standing(svg: str) -> str:
    """Return a figure that stands in a file of its own: it brings the colours of both schemes, as no page does."""
    return svg.replace("</desc>", f"</desc><style>{_SCHEME}</style>", 1)


def printable(text: str) -> str:
    """Return text on one line, with a replacement character for what XML cannot hold or a page cannot show."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def clean(text: str, longest: int = 40) -> str:
    """Return printable text that is not too long.

    `longest`: characters; of longer text the middle is cut out.
    """
    text = printable(text)
    half = (longest - 1) // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def _private_ids(root: ElementTree.Element) -> None:
    """Drop the ids that nothing refers to, and make the others differ from those of other figures."""
    prefix = "f" + hashlib.sha256(ElementTree.tostring(root)).hexdigest()[:8]
    used: set[str] = set()
    for element in root.iter():
        for key in {"href", "clip-path", "style"} & element.attrib.keys():
            used.update(name for _, name in _REFERENCE.findall(element.attrib[key]))
            element.set(key, _REFERENCE.sub(rf"\1#{prefix}-\2", element.attrib[key]))
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.set("id", f"{prefix}-{name}")
