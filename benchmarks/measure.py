"""Speed and memory of ``measure`` on large checkpoints, beside reading them and beside torch's own way.

Linux only::

    python benchmarks/measure.py [--parameters 1.5e9] [--checkpoints 3] [--folder DIR]

Writes bf16 shards of a base and its checkpoints (3 GB each by default) into a new folder, removed at the end, and
times, each in a process of its own: reading every file from start to end (``read``), `measure_displacements`
(``measure``), and loading all state dicts with torch and subtracting them tensor by tensor in float64 (``torch``).
All three run after the files were read once; whether they then come from the page cache depends on free memory.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPE = (4096, 4096)
SHARD = 16
"""Tensors a shard: 512 MiB of bf16."""


def write(folder: Path, count: int, seed: int) -> None:
    """Write `count` random bf16 tensors as shards with an index; the same seed begins with the same weights."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    index, shards = {}, math.ceil(count / SHARD)
    for shard in range(shards):
        tensors = {}
        for number in range(shard * SHARD, min((shard + 1) * SHARD, count)):
            generator = torch.Generator().manual_seed(number)
            base = 0.02 * torch.randn(SHAPE, generator=generator)
            if seed:
                base += 1e-3 * torch.randn(SHAPE, generator=generator.manual_seed(seed * 10_000 + number))
            tensors[f"model.layers.{number}.mlp.up_proj.weight"] = base.to(torch.bfloat16)
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        save_file(tensors, folder / name)
        index |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def read(folders: list[Path]) -> float:
    """Read every shard once, 8 MiB at a time."""
    total = 0
    buffer = bytearray(8 << 20)
    for folder in folders:
        for file in sorted(folder.glob("*.safetensors")):
            with file.open("rb", buffering=0) as stream:
                while got := stream.readinto(buffer):
                    total += got
    return float(total)


def measure(folders: list[Path]) -> float:
    """Measure as the command does; returns the first norm."""
    from estheory.measurement.displacement import measure_displacements

    return float(measure_displacements(folders[0], folders[1:]).norms[0])


def with_torch(folders: list[Path]) -> float:
    """Load every state dict and subtract: norms alone, no cosines, no other quantity; returns the first norm."""
    from safetensors.torch import load_file

    states = [{k: v for f in sorted(d.glob("*.safetensors")) for k, v in load_file(f).items()} for d in folders]
    norms = []
    for state in states[1:]:
        norms.append(
            math.sqrt(sum(float((state[n].double() - t.double()).square().sum()) for n, t in states[0].items()))
        )
    return norms[0]


WAYS = {"read": read, "measure": measure, "torch": with_torch}


def main() -> None:
    """Write the checkpoints, run each way in its own process, print one line each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parameters", type=float, default=1.5e9)
    parser.add_argument("--checkpoints", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        way, *folders = options.only
        started = time.perf_counter()
        value = WAYS[way]([Path(folder) for folder in folders])
        seconds = time.perf_counter() - started
        status = Path("/proc/self/status").read_text(encoding="ascii")  # ru_maxrss would begin at the parent's peak
        peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
        print(json.dumps({"way": way, "seconds": seconds, "peak_bytes": peak, "value": value}))
        return
    count = math.ceil(options.parameters / math.prod(SHAPE))
    root = Path(tempfile.mkdtemp(dir=options.folder, prefix="estheory-measure-"))
    try:
        folders = [root / str(k) for k in range(options.checkpoints)]
        for k, folder in enumerate(folders):
            write(folder, count, k)
        size = 2.0 * count * math.prod(SHAPE) * len(folders)
        print(f"{len(folders)} checkpoints (the first is the base), {size / 1e9:.2f} GB in all")
        for way in ("read", *WAYS):  # the first pass is not counted
            command = [sys.executable, __file__, "--only", way, *map(str, folders)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            speed, peak = size / row["seconds"] / 1e9, row["peak_bytes"] / 1e6
            print(f"{way:8} {row['seconds']:8.2f} s {speed:6.2f} GB/s, peak {peak:7.0f} MB, {row['value']:.8g}")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
