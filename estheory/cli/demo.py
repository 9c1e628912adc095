"""``estheory demo``: the whole line on the embedded model."""

# no postponed annotations: see options.py

import sys
from pathlib import Path
from typing import Annotated

import typer

from estheory.cli.emit import cite, interruptible, show
from estheory.cli.options import Command, TableOptions, options, program
from estheory.files import write_text

app = program()


@app.command(cls=Command, epilog="estheory demo --out demo-output")
@options(TableOptions)
def demo(
    common: TableOptions,
    out: Annotated[Path, typer.Option(help="Folder of the demo's runs and its page.")] = Path("demo-output"),
) -> None:
    """Run ES, GRPO and an ES control on tiny-lm, measure, judge, and write one HTML page. Minutes on two cores."""
    from estheory.cli.progress import counted
    from estheory.demo import STEPS, claim_folder, demo_configs, run_demo
    from estheory.models.builtin import builtin_models
    from estheory.reporting.demo import demo_json, demo_page, demo_sheet
    from estheory.validation.judge import exit_code, judge

    def say(line: str) -> None:
        if not common.quiet and common.form != "json":
            print(line, file=sys.stderr, flush=True)

    claim_folder(out)
    present = any(model.name == "smollm2-135m" and model.present for model in builtin_models())
    say("ES, GRPO and a control with permuted rewards on tiny-lm, 100 steps each; about two minutes")
    if present:
        say("smollm2-135m is here: one step of ES on it follows; about three minutes more")
    steps = STEPS * len(demo_configs(0)) + present
    kept = interruptible(lambda: "the same command keeps the runs that are done and makes the others")
    with kept, counted(common, "steps of the runs", steps) as done:
        result = run_demo(out, common.seed or 0, say, present, done)
    verdicts = judge(result.pairs)
    page = out / "report.html"
    write_text(page, demo_page(result, verdicts))
    show(common, lambda: demo_json(result, verdicts), lambda: demo_sheet(result, verdicts, page))
    cite(common, [used for v in verdicts for used in (v.prediction, v.measurement)])
    raise typer.Exit(exit_code(verdicts))
