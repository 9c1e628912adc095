"""The what-if page: one HTML file that computes in the browser and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from string import Template
from typing import Any

from estheory.reporting.explore.controls import AXES, CHARTS, CONTROLS, GROUPS, PRESETS, Chart, Control, specification
from estheory.reporting.explore.formulas import STEPS
from estheory.reporting.explore.javascript import asset, model
from estheory.reporting.page.theme import DARK, LIGHT, css_variables

AXIS_TITLES = {"run": "along the run", "update": "of one update"}


def explore_page(pilot: Mapping[str, Any] | None = None) -> str:
    """Return the page as HTML.

    `pilot`: a document of schema estheory/pilot/1 whose numbers the page starts with.
    """
    script = model() + asset("page.js")
    # "<" is escaped, so that no text in a pilot ends the element
    data = json.dumps({**specification(), "pilot": pilot}, allow_nan=False).replace("<", "\\u003c")
    theme = (
        f":root {{ {css_variables(LIGHT)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {css_variables(DARK)} }} }}\n"
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(asset("page.html")).substitute(
        policy=f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'",
        style=theme + asset("page.css"),
        presets="".join(
            f'<button type="button" data-preset="{escape(p.title)}">{escape(p.title)}</button>' for p in PRESETS
        ),
        controls="".join(_group(title, controls) for title, controls in GROUPS.items()),
        axes="".join(_axis(axis, names) for axis, names in AXES.items()),
        charts="".join(map(_chart, CHARTS)),
        data=data,
        script=script,
    )


def _group(title: str, controls: tuple[Control, ...]) -> str:
    parts = [_control(control) for control in controls]
    if controls[0].name == "dim":
        options = "".join(f"<option>{name}</option>" for name in STEPS)
        parts.append(
            '<div class="control"><label for="shaping">shaping</label>'
            f'<select id="shaping" aria-describedby="shaping-hint">{options}</select><p class="hint" id="shaping-hint">'
            "α multiplies z-scores or ranks; with raw and two-point, rewards over σ</p></div>"
            '<label class="check"><input type="checkbox" id="carry" checked> Moving σ keeps the reward as it is: '
            "its ρ², S and gap follow</label>"
        )
    return f"<fieldset><legend>{escape(title)}</legend>{''.join(parts)}</fieldset>"


def _control(control: Control) -> str:
    name, title = control.name, f"{control.title} {control.symbol}"
    hint = f'<p class="hint" id="{name}-hint">{escape(control.hint)}</p>' if control.hint else ""
    described = f' aria-describedby="{name}-hint"' if control.hint else ""
    return (
        f'<div class="control"><label for="{name}">{escape(control.title)} <i>{escape(control.symbol)}</i></label>'
        f'<input id="{name}" type="text" inputmode="decimal" autocomplete="off" spellcheck="false"{described}>'
        f'<input id="{name}-slider" type="range" min="0" max="1000" step="1" aria-label="{escape(title)}, slider">'
        f"{hint}</div>"
    )


def _axis(axis: str, names: tuple[str, ...]) -> str:
    titles = {control.name: f"{control.title} {control.symbol}" for control in CONTROLS}
    options = "".join(f'<option value="{name}">{escape(titles[name])}</option>' for name in names)
    return f'<label>Charts {AXIS_TITLES[axis]} against <select id="axis-{axis}">{options}</select></label>'


def _chart(chart: Chart) -> str:
    return (
        f'<figure id="chart-{chart.name}"><h2>{escape(chart.title)}</h2><p class="key"></p>'
        f'<div class="plot"></div><figcaption>{escape(chart.note)}</figcaption></figure>'
    )
