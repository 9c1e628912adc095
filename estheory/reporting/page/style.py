"""The style sheet of the HTML page: light, dark, phone and paper."""

from __future__ import annotations

from estheory.reporting.page.theme import DARK, LIGHT, css_variables

STYLE = f"""
:root {{ color-scheme: light dark; {css_variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {css_variables(DARK)} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--paper); color: var(--text); overflow-wrap: anywhere;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }}
main, footer {{ max-width: 68rem; margin: 0 auto; padding: 0 1rem; }}
h1 {{ font-size: 1.75rem; line-height: 1.25; margin: 2rem 0 .75rem; }}
h2 {{ font-size: 1.25rem; line-height: 1.3; margin: 2.5rem 0 .5rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }}
p, dl {{ max-width: 46rem; margin: .5rem 0 1rem; }}
.note, footer {{ color: var(--muted); font-size: .875rem; }}
footer {{ margin-top: 2.5rem; padding-bottom: 2rem; }}
ul.tally {{ display: flex; flex-wrap: wrap; gap: .5rem 1.25rem; list-style: none; margin: 1rem 0; padding: 0; }}
.kind {{ white-space: nowrap; font-weight: 600; }}
.kind > span {{ display: inline-block; width: 1.5em; height: 1.5em; margin-right: .4em;
  border: 2px solid; border-radius: 50%; line-height: 1.2em; text-align: center; font-size: .85em; }}
.consistent {{ color: var(--good); }}
.refuted {{ color: var(--bad); }}
.refuted > span {{ border-radius: 0; }}
.underpowered {{ color: var(--muted); }}
.underpowered > span {{ border-style: dashed; }}
.scroll {{ overflow-x: auto; max-width: 100%; margin: .75rem 0 1rem;
  border: 1px solid var(--line); border-radius: 6px;
  background: linear-gradient(to left, var(--paper) 1rem, transparent 2.5rem) right / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / .75rem 100% no-repeat scroll; }}
.scroll:focus-visible {{ outline: 3px solid var(--good); outline-offset: 2px; }}
table {{ border-collapse: collapse; width: 100%; font-size: .875rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; }}
th, td {{ padding: .45rem .6rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line);
  overflow-wrap: normal; }}
thead th {{ border-top: 0; color: var(--muted); font-weight: 600; white-space: nowrap; }}
tbody th {{ font-weight: 500; }}
.number {{ text-align: right; white-space: nowrap; }}
.where {{ min-width: 9rem; }}
.unit {{ color: var(--muted); white-space: nowrap; }}
figure {{ margin: 1rem 0; }}
figure svg {{ display: block; width: 100%; max-width: 36rem; height: auto; font-family: inherit; }}
@media screen and (min-width: 60rem) {{
  .pictured {{ display: grid; grid-template-columns: 22rem 1fr; column-gap: 2rem; align-items: start; }}
  .pictured > h2, .pictured > .scroll {{ grid-column: 1 / -1; }}
  .pictured > p, .pictured > ul {{ grid-column: 1; }}
  .pictured > figure {{ grid-column: 2; grid-row: 2 / span 2; margin-top: 0; }}
  .pictured > figure svg {{ max-width: 42rem; }}
}}
summary {{ cursor: pointer; padding: .4rem 0; color: var(--good); font-weight: 600; }}
summary:focus-visible {{ outline: 3px solid var(--good); outline-offset: 2px; }}
li {{ margin: .2rem 0; }}
dt {{ margin-top: .75rem; font-weight: 600; }}
dd {{ margin: 0; }}
@media print {{
  @page {{ margin: 15mm; }}
  :root {{ font-size: 10pt; }}
  main, footer {{ max-width: none; padding: 0; }}
  details::details-content {{ content-visibility: visible; block-size: auto; }}
  .scroll {{ overflow: visible; border: 0; }}
  table {{ font-size: 7pt; }}
  th, td {{ padding: .2rem .25rem; }}
  .where {{ min-width: 0; overflow-wrap: anywhere; }}
  figure svg {{ max-width: 12.5cm; }}
  figure, tr, h2 {{ break-inside: avoid; }}
  h1, h2, h2 + p {{ break-after: avoid; }}
}}
"""
