"""How far and in which direction checkpoints moved from a base, in one streaming pass over their files.

Only the files are read, never a model built. Memory is bounded by one chunk of every checkpoint and thread;
differences and sums are taken in float64 (`displacement_sums`). Imports no torch, unless torch.save wrote a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from estheory._special import Array
from estheory.errors import ConfigError, DataError
from estheory.files import Problems, note
from estheory.floats import FloatFormat
from estheory.measurement.displacement_sums import displacement_sums
from estheory.models.checkpoints import Checkpoint, open_comparable
from estheory.models.entry_kinds import LeftOut
from estheory.models.renames import Renamed
from estheory.quantities import Measurement, Quantity
from estheory.shown import Shown
from estheory.tensor_names import layer_of, module_of


@dataclass(frozen=True, kw_only=True)
class Displacements(Shown):
    """Sums over the displacements of K checkpoints from one base, tensor by tensor.

    A tensor that could not be compared in one checkpoint has NaN there.

    Attributes
    ----------
    labels, steps, folders
        Name, training step (None if unknown) and parent folder of each checkpoint, length K.
    tensors
        Number of entries by tensor name.
    gram : ndarray, shape (tensors, K, K)
        Inner products of the displacements (weight^2).
    fourth : ndarray, shape (tensors, K)
        Sums of fourth powers (weight^4).
    unchanged : ndarray, shape (tensors, K)
        Numbers of entries that did not change.
    largest : ndarray, shape (tensors, K)
        Largest absolute changes (weight).
    storage : ndarray, shape (tensors, K)
        Squared changes of the base by rounding it to the format of a checkpoint that stores it more coarsely
        (weight^2). The displacement starts behind them, at the rounded base.
    problems
        What could not be measured, one line each.
    notes
        What to know of the values that were measured, one line each.
    left_out
        Checkpoint's label, and what its files hold that no norm counts; the base's own label for the base.
    renamed
        Checkpoint's label, and what of its names was replaced.
    """

    labels: tuple[str, ...]
    steps: tuple[int | None, ...]
    folders: tuple[Path, ...]
    tensors: Mapping[str, int]
    gram: Array
    fourth: Array
    unchanged: Array
    largest: Array
    storage: Array
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, LeftOut], ...] = ()
    renamed: tuple[tuple[str, Renamed], ...] = ()

    @property
    def total_gram(self) -> Array:
        """Inner products over all tensors, shape (K, K)."""
        return np.asarray(self.gram.sum(axis=0))

    @property
    def norms(self) -> Array:
        """||delta|| of each checkpoint over all tensors, shape (K,)."""
        return np.sqrt(np.diagonal(self.total_gram))

    @property
    def tensor_norms(self) -> Array:
        """||delta|| tensor by tensor, shape (K, tensors)."""
        return np.sqrt(np.diagonal(self.gram, axis1=1, axis2=2)).T

    @property
    def sizes(self) -> Array:
        """Number of entries of each tensor, shape (tensors,)."""
        return np.array(list(self.tensors.values()), dtype=np.float64)

    @property
    def cosines(self) -> Array:
        """Cosines between displacements, shape (K, K); NaN beside a checkpoint that did not move."""
        norms = self.norms
        with np.errstate(invalid="ignore"):
            return self.total_gram / np.outer(norms, norms)

    @property
    def unchanged_fractions(self) -> Array:
        """Share of the entries that did not change, shape (K, tensors); NaN for a tensor without entries."""
        with np.errstate(invalid="ignore"):
            return np.asarray((self.unchanged / self.sizes[:, None]).T)

    @property
    def kurtoses(self) -> Array:
        """Kurtosis about zero, n sum d^4 / (sum d^2)^2, shape (K, tensors); NaN for a tensor that did not move."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.sizes * self.fourth.T / self.tensor_norms**4)

    @property
    def exponent(self) -> float | None:
        """Slope of log ||delta||^2 in log T by least squares; None unless these are checkpoints of one run.

        They are if all lie in one folder, at two or more different known steps. NaN if one did not move.
        """
        steps = [step for step in self.steps if step]
        if len(steps) < len(self.steps) or len(set(steps)) < max(2, len(steps)) or len(set(self.folders)) > 1:
            return None
        x = np.log(np.array(steps, dtype=np.float64))
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (x - x.mean()) @ (2 * np.log(self.norms)) / ((x - x.mean()) @ (x - x.mean()))
        return float(slope) if math.isfinite(slope) else math.nan

    def effective_dimension_ratios(self, variances: Sequence[float]) -> Array:
        """Return ||delta||^2 / (v n) tensor by tensor; a pure walk gives 1 +- sqrt(2/n).

        `variances`: v of each checkpoint, length K: alpha^2 T / N, or (alpha^2 / N^2) times the sum of the squared
        logged coefficients (weight^2).
        """
        if len(variances) != len(self.labels) or not all(v > 0 and math.isfinite(v) for v in variances):
            raise ConfigError("each checkpoint needs one positive walk variance", "give alpha^2 T / N of each")
        with np.errstate(invalid="ignore"):
            return np.asarray(self.tensor_norms**2 / np.outer(variances, self.sizes))

    def grouped(self, group_of: Callable[[str], str | None]) -> Displacements:
        """Return the same sums over groups of tensors.

        `group_of`: the group of a tensor's name; None leaves the tensor out.
        Result: groups in the order in which they first appear.
        """
        groups: dict[str, list[int]] = {}
        for row, name in enumerate(self.tensors):
            group = group_of(name)
            if group is not None:
                groups.setdefault(group, []).append(row)
        sizes = list(self.tensors.values())
        rows = list(groups.values())
        count = len(self.labels)
        return replace(
            self,
            tensors={group: sum(sizes[row] for row in members) for group, members in groups.items()},
            gram=np.array([self.gram[r].sum(axis=0) for r in rows]).reshape(-1, count, count),
            fourth=np.array([self.fourth[r].sum(axis=0) for r in rows]).reshape(-1, count),
            unchanged=np.array([self.unchanged[r].sum(axis=0) for r in rows]).reshape(-1, count),
            largest=np.array([self.largest[r].max(axis=0) for r in rows]).reshape(-1, count),
            storage=np.array([self.storage[r].sum(axis=0) for r in rows]).reshape(-1, count),
        )

    def measurements(self, variances: Sequence[float] | None = None) -> list[Measurement]:
        """Return every quantity of each checkpoint, in total, by module type, by layer and by tensor; then of pairs.

        `variances`: variance of the walk behind each checkpoint (weight^2), for effective-dimension ratios; None leaves
        them out.
        """
        levels = {
            "total": self.grouped(lambda name: ""),
            "module": self.grouped(module_of),
            "layer": self.grouped(layer_of),
            "tensor": self,
        }
        columns = {level: (tuple(sums.tensors), list(sums._columns(variances))) for level, sums in levels.items()}
        rows = []
        for k, label in enumerate(self.labels):
            for level, (names, quantities) in columns.items():
                for quantity, values in quantities:
                    for name, value in zip(names, values[k].tolist(), strict=True):
                        where = f"{level}:{label}" + (f":{name}" if name else "")
                        rows.append(_row(quantity, value, self.steps[k], where))
        cosines = self.cosines
        for a, b in combinations(range(len(self.labels)), 2):
            step = self.steps[a] if self.steps[a] == self.steps[b] else None
            where = f"{self.labels[a]}|{self.labels[b]}"
            rows.append(_row(Quantity.DISPLACEMENT_COSINE, float(cosines[a, b]), step, where))
        if (exponent := self.exponent) is not None:
            where = f"{self.labels[0]}..{self.labels[-1]}"
            rows.append(_row(Quantity.DISPLACEMENT_EXPONENT, exponent, None, where))
        return rows

    def _columns(self, variances: Sequence[float] | None) -> Iterator[tuple[Quantity, Array]]:
        yield Quantity.DISPLACEMENT_NORM, self.tensor_norms
        if variances is not None:
            yield Quantity.EFFECTIVE_DIMENSION_RATIO, self.effective_dimension_ratios(variances)
        yield Quantity.UNCHANGED_FRACTION, self.unchanged_fractions
        yield Quantity.DISPLACEMENT_KURTOSIS, self.kurtoses
        yield Quantity.LARGEST_CHANGE, self.largest.T
        if self.storage.any():
            yield Quantity.STORAGE_CHANGE, np.sqrt(self.storage).T


def _row(quantity: Quantity, value: float, step: int | None, where: str) -> Measurement:
    return Measurement(quantity=quantity, value=value, step=step, where=where, source="checkpoints")


def measure_displacements(
    base: str | Path,
    checkpoints: Sequence[str | Path] | Mapping[str, str | Path],
    *,
    names: Collection[str] | None = None,
    repeat_head: bool = False,
    keep_going: bool = False,
    stored: FloatFormat | None = None,
    chunk: int | None = None,
    threads: int | None = None,
) -> Displacements:
    """Compare checkpoints with a base, tensor by tensor, in one pass.

    Parameters
    ----------
    base
        A ``.safetensors`` file, a file of torch.save or a Hugging Face folder.
    checkpoints
        K paths, or paths by label; PEFT adapters of the base too.
    names
        The tensors to compare; None: all, and then every checkpoint must hold exactly the base's tensors.
    repeat_head
        Count a tied output head a second time, as a state dict lists it.
    keep_going
        Note what cannot be compared in `Displacements.problems` instead of raising.
    stored
        Round the base to this format first: a run that casts its model starts from there. None: to the format of
        each checkpoint that stores it more coarsely.
    chunk
        Entries of each checkpoint held at a time by one thread; None: as many as stay in its cache.
    threads
        Number of threads; None: one a processor.

    Returns
    -------
    Displacements

    Raises
    ------
    ConfigError
        If there is no checkpoint, or two have the same label.
    DataError
        If a file is damaged, holds NaN or infinite entries, or does not match the base; with `keep_going`, if
        nothing can be compared.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from safetensors.numpy import save_file
    >>> folder = Path(mkdtemp())
    >>> for name, moved in (("base", 0.0), ("tuned", 0.5), ("further", 1.5)):
    ...     save_file({"weight": np.full(16, 1.0 + moved, dtype=np.float32)}, folder / f"{name}.safetensors")
    >>> ends = {name: folder / f"{name}.safetensors" for name in ("tuned", "further")}
    >>> moved = measure_displacements(folder / "base.safetensors", ends)
    >>> moved.norms, float(moved.cosines[0, 1])
    (array([2., 6.]), 1.0)
    """
    labelled = dict(checkpoints) if isinstance(checkpoints, Mapping) else {str(p): p for p in checkpoints}
    if not labelled or len(labelled) != len(checkpoints):
        raise ConfigError("checkpoints are missing or given twice", "give one or more different checkpoints")
    problems: Problems | None = [] if keep_going else None
    chosen = None if names is None else frozenset(names)
    reference, others = open_comparable(base, labelled, names=chosen, repeat_head=repeat_head, problems=problems)
    sums = displacement_sums(reference, others, stored=stored, chunk=chunk, threads=threads)
    tensors = {name: entry.size for name, entry in reference.tensors.items()}
    count = len(others)
    gram = sums[:, :count]
    for row, name in enumerate(tensors):
        if not np.isfinite(gram[row]).all():
            _explain(reference, others, name, problems)
    return Displacements(
        labels=tuple(other.label for other in others),
        steps=tuple(other.step for other in others),
        folders=tuple(other.path.parent for other in others),
        tensors=tensors,
        gram=gram,
        fourth=sums[:, count],
        unchanged=sums[:, count + 1],
        storage=sums[:, count + 2],
        largest=sums[:, count + 3],
        problems=tuple(problems or ()),
        notes=tuple(f"{one.label}: {note}" for one in (reference, *others) for note in one.notes),
        left_out=tuple((one.label, row) for one in (reference, *others) for row in one.left_out),
        renamed=tuple((one.label, row) for one in (reference, *others) for row in one.renamed),
    )


def _explain(reference: Checkpoint, others: Sequence[Checkpoint], name: str, problems: Problems | None) -> None:
    """Raise or note which checkpoints hold NaN or infinite entries in a tensor whose sums are not finite."""
    held = [checkpoint for checkpoint in (reference, *others) if name in checkpoint.tensors]
    finite = True
    for checkpoint in held:
        try:
            checkpoint.require_finite(name)
        except DataError as error:
            note(error, problems)
            finite = False
    if finite and len(held) > len(others):
        what = f"tensor {name} of {reference.path} has entries beyond the range of a checkpoint's 16-bit format"
        note(DataError(what, "save the checkpoint in bfloat16 or float32"), problems)
