"""Time to quality: how long ours trains until it is as good as a Seq2SeqTrainer script is after its epochs.

    python -m benchmarks.quality --train DIR --dev DIR --language ln --baseline hf_seq2seq.py

The baseline trains first, and its CER on the dev rows is what is to be reached. Then ours trains for as many epochs as
`--epochs` names, anew each time, until its CER on the same rows, on 30 s, is no higher. Seconds are those of training
alone, on both sides; what counts is their ratio. The baseline's run may be given as its last line, `--known`: it takes
an hour where ours takes minutes. It is any script with the options used below, whose last line is one JSON object with
`train_s`, `wer` and `cer`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from whispertune.model.load import find_model
from whispertune.recipe_file import parse_recipe
from whispertune.reporting import Reporter, StepReport
from whispertune.train.loop import fine_tune
from whispertune.train.run import Run


@dataclass(frozen=True)
class Reached:
    """What a training came to, on the dev rows."""

    seconds: float  # of training
    wer: float  # per cent
    cer: float  # per cent


class Lines(Reporter):
    """A line now and then."""

    def step(self, report: StepReport) -> None:
        if report.step % 10 == 0:
            print(f"step {report.step}/{report.total_steps}, loss {report.loss:.2f}", file=sys.stderr, flush=True)


def baseline(options: argparse.Namespace, out: Path) -> Reached:
    """The other side's epochs, as its own script says them."""
    model = find_model(options.model).path
    command = [
        *(sys.executable, str(options.baseline), "--model", str(model), "--train", str(options.train)),
        *("--dev", str(options.dev), "--language", options.language, "--epochs", str(options.baseline_epochs)),
        *("--batch", str(options.batch), "--accumulate", str(options.step // options.batch)),
        *("--limit-train", str(options.rows), "--limit-dev", str(options.dev_rows), "--out", str(out)),
    ]
    print(" ".join(command), file=sys.stderr)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return read_baseline(done.stdout.strip().splitlines()[-1])


def read_baseline(line: str) -> Reached:
    """From the line of JSON that it ends with."""
    found = json.loads(line)
    return Reached(found["train_s"], found["wer"], found["cer"])


def ours(options: argparse.Namespace, epochs: float, out: Path) -> Reached:
    """So many epochs of the same rows, with the defaults but for the learning rate."""
    recipe = parse_recipe(
        {
            "model": options.model,
            "language": options.language,
            "data": {
                "train": [{"source": str(options.train), "limit_rows": options.rows}],
                "dev": [{"source": str(options.dev), "limit_rows": options.dev_rows}],
            },
            "train": {"step_segments": options.step, "epochs": epochs, "learning_rate": options.rate},
            "evaluation": {"times": 0, "verify_clips": 0},
            "checkpoints": {"every_steps": 10_000},
        }
    )
    result = fine_tune(recipe, Run(out), reporter=Lines())
    return Reached(result.seconds_training, result.tuned.scores.wer, result.tuned.scores.cer)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs = read_baseline(options.known) if options.known else baseline(options, folder / "baseline")
        tried = []
        for epochs in options.epochs:
            found = ours(options, epochs, folder / f"{epochs:g} epochs")
            tried.append({"epochs": epochs, "train_s": found.seconds, "wer": found.wer, "cer": found.cer})
            print(json.dumps(tried[-1]), file=sys.stderr, flush=True)
            if found.cer <= theirs.cer:
                break
    reached = tried[-1]["cer"] <= theirs.cer
    told = {
        "rows": options.rows,
        "dev_rows": options.dev_rows,
        "baseline": {"train_s": theirs.seconds, "wer": theirs.wer, "cer": theirs.cer},
        "ours": tried,
        "times_as_fast": theirs.seconds / tried[-1]["train_s"] if reached else None,
    }
    print(json.dumps(told), flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--baseline", type=Path)
    other.add_argument("--known", help="the line of JSON that the baseline ended with, instead of running it")
    parser.add_argument("--language", default="ln")
    parser.add_argument("--model", default="bundled:whisper-base")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--dev-rows", type=int, default=100)
    parser.add_argument("--baseline-epochs", type=float, default=2)
    parser.add_argument("--epochs", type=float, nargs="+", default=[0.5, 1, 2, 3], help="of ours, tried in turn")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate of ours")
    parser.add_argument("--step", type=int, default=16, help="utterances a step, on both sides")
    parser.add_argument("--batch", type=int, default=4, help="of them in one pass of the baseline")
    return parser.parse_args()


if __name__ == "__main__":
    main()
