"""Names of one tensor in different wrappers and versions of libraries, recognised as patterns.

What a wrapper adds (torch.compile, FSDP, DDP, peft) is taken off everywhere. Other prefixes (``model.``,
``transformer.``, those of vision-language models) are matched with the base's: the tensor behind the prefix must have
the same name and shape, and no other prefix may fit as well. An output head of another name (``embed_out``) is matched
if it is the only one on either side.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from estheory.tensor_names import block_of

_INSIDE = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output|head)\.weight$")
"""What the output head is called in one library or another."""
_BEFORE = ("module.", "base_model.model.", "pretrained_model.")

NamedShapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Renamed:
    """A part of names that was replaced.

    Attributes
    ----------
    before, after
        The part in the file, and what took its place (empty: nothing).
    tensors
        How many names it changed.
    """

    before: str
    after: str
    tensors: int


def unwrapped(names: Iterable[str]) -> tuple[dict[str, str], list[Renamed]]:
    """Take off what wrappers add to names: the new name by the old one, and what was taken off."""
    result = {name: name for name in names}
    found: Counter[str] = Counter()
    for name in result:
        parts = _INSIDE.findall(name)
        found.update(parts)
        if parts:
            result[name] = _INSIDE.sub("", name)
    while prefix := next((p for p in _BEFORE if result and all(new.startswith(p) for new in result.values())), ""):
        found[prefix] += len(result)
        result = {name: new.removeprefix(prefix) for name, new in result.items()}
    if len(set(result.values())) < len(result):
        return {name: name for name in result}, []
    return result, [Renamed(before=part, after="", tensors=count) for part, count in sorted(found.items())]


def aligned(base: NamedShapes, other: NamedShapes) -> tuple[dict[str, str], list[Renamed]]:
    """Match the names of a checkpoint with the base's: the new name by the old one, and the prefixes replaced."""
    result = {name: name for name in other}
    rules = []
    while rule := _best_rule(base, {result[name]: shape for name, shape in other.items()}):
        before, after = rule
        taken, changed = set(result.values()), 0
        for name, new in result.items():
            target = after + new.removeprefix(before)
            fits = target in base or (before or block_of(new) != new)
            if new not in base and new.startswith(before) and fits and target not in taken:
                result[name] = target
                changed += 1
        rules.append(Renamed(before=before, after=after, tensors=changed))
    there = [name for name, new in result.items() if new not in base and _HEAD.search(name)]
    wanted = [name for name in base if name not in result.values() and _HEAD.search(name)]
    if len(there) == len(wanted) == 1 and other[there[0]][1:] == base[wanted[0]][1:]:
        result[there[0]] = wanted[0]
        rules.append(Renamed(before=there[0], after=wanted[0], tensors=1))
    return result, rules


def _best_rule(base: NamedShapes, other: NamedShapes) -> tuple[str, str] | None:
    """Return the prefix of the checkpoint and the base's in its place that make most names agree, if it is clear."""
    free = {name: shape for name, shape in base.items() if name not in other}
    votes: Counter[tuple[str, str]] = Counter()
    behind: dict[str, list[str]] = {}
    for name in free:
        for tail in _tails(name):
            behind.setdefault(tail, []).append(name)
    for name, shape in other.items():
        if name in base:
            continue
        in_block, seen = block_of(name) != name, set()
        for tail in _tails(name):  # the longest first
            for match in behind.get(tail, ()):
                before, after = name.removesuffix(tail), match.removesuffix(tail)
                fits = free[match] == shape or (not in_block and free[match][1:] == shape[1:])
                if match not in seen and fits and (in_block or not before or not after):
                    votes[before, after] += 1
                seen.add(match)
    ranked = votes.most_common()
    if not ranked:
        return None
    (before, after), most = ranked[0]
    rivals = [n for (b, a), n in ranked[1:] if (b == before) != (a == after)]
    return (before, after) if not rivals or most > max(rivals) else None


def _tails(name: str) -> Iterator[str]:
    """Yield the name and what is behind each of its dots, up to its block and the block's number."""
    block = block_of(name)
    last = block.rfind(".", 0, block.rfind(".")) + 1 if block != name else len(name)
    at = 0
    while at <= last:
        yield name[at:]
        at = name.find(".", at) + 1 or last + 1
