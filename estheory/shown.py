"""What notebooks show of a result: tables, a data frame, a figure."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class Tabled:
    """A result that prints as the tables of its command, in notebooks as HTML.

    Its tables are made by `estheory.reporting.notebook`, which is imported when something is shown.
    """

    def _view(self) -> Any:
        return import_module("estheory.reporting.notebook").view_of(self)

    def __str__(self) -> str:
        return str(self._view().sheet().text())

    def _repr_html_(self) -> str:
        return str(self._view().sheet().html())

    def _repr_markdown_(self) -> str:
        return str(self._view().sheet().markdown())

    def to_frame(self) -> pd.DataFrame:
        """Return the rows of the result as a pandas data frame, whose columns are the keys of its JSON document."""
        return self._view().frame()


class Shown(Tabled):
    """A result that has a figure, too."""

    def plot(self, path: Path | str | None = None) -> Any:
        """Return the figure of the result, which a notebook shows, and write it to a file where one is named.

        `path`: its suffix is the format: .png, .svg or .pdf.
        """
        picture = self._view().picture()
        if path is not None:
            picture.save(Path(path))
        return picture
