"""Colours of the HTML page and its figures, for light and dark screens and for paper.

The series colours are close to Okabe and Ito's, told apart with every common colour vision; figures never rely on
colour alone (line styles, markers and hatches differ too).
"""

from __future__ import annotations

SERIES = 4
"""Number of series colours."""

LIGHT = {
    "paper": "#ffffff",
    "shade": "#aab2bc",
    "text": "#1b1f24",
    "muted": "#57606a",
    "line": "#d0d7de",
    "good": "#005f94",
    "bad": "#a83a00",
    "series-1": "#0072b2",
    "series-2": "#d55e00",
    "series-3": "#008a64",
    "series-4": "#b0548c",
}
DARK = {
    "paper": "#14171c",
    "shade": "#5a6472",
    "text": "#e6e9ee",
    "muted": "#a3adb8",
    "line": "#3a424d",
    "good": "#6cbef0",
    "bad": "#ff9a5c",
    "series-1": "#56b4e9",
    "series-2": "#f0883e",
    "series-3": "#3dd6a3",
    "series-4": "#e39bc6",
}


def css_variables(palette: dict[str, str]) -> str:
    """Return a palette as CSS custom properties."""
    return " ".join(f"--{name}: {colour};" for name, colour in palette.items())


def themed(style: str) -> str:
    """Replace the light palette's colours in a ``style`` by what follows the page: its text colour and properties."""
    for name, colour in LIGHT.items():
        style = style.replace(colour, "currentColor" if name == "text" else f"var(--{name}, {colour})")
    return style
