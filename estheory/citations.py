"""BibTeX of estheory and of the work it rests on, by the sources that predictions and measurements name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol


class Cited(Protocol):
    """What names its source: a prediction, a measurement, a derivation."""

    @property
    def source(self) -> str:
        """``arXiv:...`` or ``ours: ...``, the page of its derivation."""


def ours(page: str) -> str:
    """Return the source of what is derived on a page of ``docs/concepts``."""
    return f"ours: docs/concepts/{page}.md"


def _article(key: str, arxiv: str, year: int, title: str, author: str) -> str:
    fields = {"title": title, "author": author, "journal": f"arXiv preprint arXiv:{arxiv}", "year": str(year)}
    return f"@article{{{key},\n" + "".join(f"  {name:<7} = {{{value}}},\n" for name, value in fields.items()) + "}\n"


_OURS = """\
@software{estheory,
  title  = {estheory: predicting the geometry of evolution-strategies fine-tuning},
  author = {{The estheory developers}},
  year   = {2026},
}
"""
_WORKS = (
    (
        "hoy2026geometry",
        "2604.01499",
        2026,
        "Matching Accuracy, Different Geometry: Evolution Strategies vs {GRPO} in {LLM} Post-Training",
        "Hoy, William and Wang, Binxu and Pan, Xu",
    ),
    (
        "qiu2025evolution",
        "2509.24372",
        2025,
        "Evolution Strategies at Scale: {LLM} Fine-Tuning Beyond Reinforcement Learning",
        "Qiu, Xin and Gan, Yulu and Hayes, Conor F. and Liang, Qiyao and Xu, Yinggan and Dailey, Roberto and "
        "Meyerson, Elliot and Hodjat, Babak and Miikkulainen, Risto",
    ),
    (
        "salimans2017evolution",
        "1703.03864",
        2017,
        "Evolution Strategies as a Scalable Alternative to Reinforcement Learning",
        "Salimans, Tim and Ho, Jonathan and Chen, Xi and Sidor, Szymon and Sutskever, Ilya",
    ),
    (
        "schweighofer2026forgetting",
        "2605.30148",
        2026,
        "Overcoming Forgetting in {LLM} Fine-Tuning with Evolution Strategies",
        "Schweighofer, Kajetan and Hayes, Conor F. and Dailey, Roberto and Miikkulainen, Risto and Qiu, Xin",
    ),
    (
        "liang2026blessing",
        "2602.00170",
        2026,
        "The Blessing of Dimensionality in {LLM} Fine-tuning: A Variance-Curvature Perspective",
        "Liang, Qiyao and Song, Jinyeop and Liu, Yizhou and Gore, Jeff and Fiete, Ila and Miikkulainen, Risto and "
        "Qiu, Xin",
    ),
    (
        "sarkar2025hyperscale",
        "2511.16652",
        2025,
        "Evolution Strategies at the Hyperscale",
        "Sarkar, Bidipta and Fellows, Mattie and Duque, Juan Agustin and Letcher, Alistair and "
        "Le{\\'o}n Villares, Antonio and Sims, Anya and Wibault, Clarisse and Samsonov, Dmitry and Cope, Dylan and "
        "Liesen, Jarek and Li, Kang and Seier, Lukas and Wolf, Theo and Berdica, Uljad and Mohl, Valentin and "
        "Goldie, Alexander David and Courville, Aaron and Sevegnani, Karin and Whiteson, Shimon and "
        "Foerster, Jakob Nicolaus",
    ),
    (
        "malladi2023mezo",
        "2305.17333",
        2023,
        "Fine-Tuning Language Models with Just Forward Passes",
        "Malladi, Sadhika and Gao, Tianyu and Nichani, Eshaan and Damian, Alex and Lee, Jason D. and Chen, Danqi and "
        "Arora, Sanjeev",
    ),
    (
        "shao2024deepseekmath",
        "2402.03300",
        2024,
        "{DeepSeekMath}: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        "Shao, Zhihong and Wang, Peiyi and Zhu, Qihao and Xu, Runxin and Song, Junxiao and Bi, Xiao and "
        "Zhang, Haowei and Zhang, Mingchuan and Li, Y. K. and Wu, Y. and Guo, Daya",
    ),
    (
        "loshchilov2017adamw",
        "1711.05101",
        2017,
        "Decoupled Weight Decay Regularization",
        "Loshchilov, Ilya and Hutter, Frank",
    ),
)
ENTRIES = {f"arXiv:{work[1]}": _article(*work) for work in _WORKS}
"""BibTeX by source."""

METHODS = {
    "es": ("arXiv:1703.03864", "arXiv:2509.24372"),
    "grpo": ("arXiv:2402.03300", "arXiv:1711.05101"),
    "low-rank": ("arXiv:2511.16652",),
    "two-point": ("arXiv:2305.17333",),
    "anchor": ("arXiv:2605.30148",),
}
"""Where the parts of a training run come from."""


def bibtex(used: Iterable[Cited | str] | None = None) -> str:
    """Return the BibTeX entries to cite: estheory's own, and those of the works whose results were used.

    Parameters
    ----------
    used
        Predictions, measurements or derivations, whose ``source`` is looked up, or sources themselves; all works that
        estheory rests on when None. A source of ours, or of a report without an entry, adds nothing.

    Returns
    -------
    str

    Examples
    --------
    >>> from estheory import ESConfig, predict
    >>> entries = bibtex(predict(ESConfig(dim=10**9, sigma=0.0015, population=30)).predictions)
    >>> [line for line in entries.splitlines() if line.startswith("@")]
    ['@software{estheory,', '@article{hoy2026geometry,']
    """
    if used is None:
        return "".join((_OURS, *ENTRIES.values())).rstrip()
    named = {name for item in used for name in _names(item if isinstance(item, str) else item.source)}
    return "".join((_OURS, *(entry for name, entry in ENTRIES.items() if name in named))).rstrip()


def _names(source: str) -> list[str]:
    return re.findall(r"arXiv:\d{4}\.\d{4,5}", source)
