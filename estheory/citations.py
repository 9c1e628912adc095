"""BibTeX of estheory and of the work it rests on."""

from __future__ import annotations

_ENTRIES = """\
@software{estheory,
  title  = {estheory: predicting the geometry of evolution-strategies fine-tuning},
  author = {{The estheory developers}},
  year   = {2026},
}
@article{hoy2026geometry,
  title   = {Matching Accuracy, Different Geometry: Evolution Strategies vs GRPO in LLM Post-Training},
  author  = {Hoy and Wang and Pan},
  journal = {arXiv preprint arXiv:2604.01499},
  year    = {2026},
}
@article{qiu2025evolution,
  title   = {Evolution Strategies at Scale: LLM Fine-Tuning Beyond Reinforcement Learning},
  author  = {Qiu and others},
  journal = {arXiv preprint arXiv:2509.24372},
  year    = {2025},
}
@article{salimans2017evolution,
  title   = {Evolution Strategies as a Scalable Alternative to Reinforcement Learning},
  author  = {Salimans and Ho and Chen and Sidor and Sutskever},
  journal = {arXiv preprint arXiv:1703.03864},
  year    = {2017},
}
"""


def bibtex() -> str:
    """Return the BibTeX entries to cite."""
    return _ENTRIES.rstrip()
