"""Runs on disk: written, resumed and read. Imports no torch.

What a run is:

- `config`: `ESRunConfig` and `GRPORunConfig`, declared once for Python, config.toml and the command line;
  `config_files` reads them back, every value checked.
- `sequence`: `SequenceConfig`, and `SequenceRecord` with its `Stage`.

How a run is read, whoever's code wrote it::

    from estheory.runs.read import read_run

    run = read_run(path)             # OwnRun or ForeignRun (estheory.runs.view), both a RunRecord
    run.settings.sigma               # Settings: hyper-parameters as far as they are told, else None
    run.settings.rules()             # the ESConfig that theory takes
    for step in run.steps:           # Step: rewards, prompt_rewards, centre_rewards, coefficients, norm, kl, lr, ...
        step.rewards                 # ndarray, shape (N,), or None where the code logs none

`directory.RunDirectory` writes and resumes a run of this package, and `RunDirectory.open(path).record()` is its
`OwnRun`, with the typed configuration as `run.config` and evaluations as `run.evaluations`. `foreign` holds a reader
for each other code; `foreign.log` reads the JSONL log of any code.
"""
