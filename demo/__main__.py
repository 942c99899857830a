"""The main job from end to end, offline: speech with a vocabulary Whisper gets wrong, before and after.

make demo      # or: python -m demo [folder]
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from demo.speech import TERMS, synthesise
from whispertune.cli.quiet import quieten
from whispertune.cli.screen import Screen, evaluation_table
from whispertune.data.audio import AudioReader
from whispertune.data.captions import read_captions, write_captions
from whispertune.decode.transcribe import Options, open_transcriber
from whispertune.errors import InputError, WhispertuneError
from whispertune.evaluation.evaluate import Evaluation
from whispertune.recipe import Recipe
from whispertune.recipe_file import load_recipe
from whispertune.score.terms import TermScores, load_terms, score_terms
from whispertune.score.wer import UtteranceScore
from whispertune.service.export import export_model
from whispertune.train.loop import TrainingResult, fine_tune
from whispertune.train.run import Run

RECIPE = Path(__file__).with_name("recipe.toml")
SHOWN_CUES = 10
DEPLOYED = "deployed"
MARK = "made-by-make-demo"  # a file in a folder of the demo's: what else is in there is written anew each time


def main(folder: Path) -> int:
    """All five parts; the exit code."""
    quieten()
    console = Console(highlight=False)
    start = time.perf_counter()
    data, run = folder / "data", Run(folder / "run")
    if folder.exists() and not (folder / MARK).exists():
        fix = "move it away, or give another: python -m demo FOLDER"
        raise InputError("this folder is not the demo's", where=str(folder), fix=fix)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    for made in (run.folder, folder / DEPLOYED):
        shutil.rmtree(made, ignore_errors=True)
    console.rule("1  a vocabulary, read out")
    synthesise(data)
    recipe = load_recipe(RECIPE, [f"data.train.0.source={data / 'train.mp3'}", f"data.dev.0.source={data / 'dev.mp3'}"])
    _tell_data(console, data)
    console.rule("2 and 3  whisper-base, measured and fine-tuned")
    with Screen() as screen:
        result = fine_tune(recipe, run, reporter=screen)
    console.rule("4  before and after")
    _compare(console, result, load_terms(data / TERMS))
    _captions(console, data / "dev.mp3", recipe, run)
    console.rule("5  the folder to deploy")
    with Screen() as screen:
        report = export_model(str(run.folder), "ct2", folder / DEPLOYED, reporter=screen)
    found = report.comparison
    if found is not None:
        console.print(
            f"{report.folder}: {report.size_bytes / 1e6:.0f} MB in {report.quantization}; faster-whisper is "
            f"{found.wer_apart:.2f} WER from the source on {found.words} words, {found.texts_equal} of {found.clips} "
            f"texts are equal"
        )
    console.print(f"\n{(time.perf_counter() - start) / 60:.1f} minutes in all. Next:\n")
    console.print(f"  .venv/bin/whispertune transcribe {data / 'dev.mp3'} --model {folder / DEPLOYED} --out captions/")
    console.print("  .venv/bin/whispertune init my-run --data recordings/ --dev recordings-dev/ --language sv")
    console.print("  .venv/bin/whispertune train my-run/recipe.toml")
    return 0


def _tell_data(console: Console, data: Path) -> None:
    for name in ("train", "dev"):
        cues = read_captions(data / f"{name}.vtt").cues
        minutes = sum(cue.end_s - cue.start_s for cue in cues) / 60
        console.print(f"{data / name}.mp3 + .vtt: {len(cues)} sentences, {minutes:.1f} min of speech")
    terms = load_terms(data / TERMS)
    console.print(f"{len(terms)} terms: {', '.join(terms)}")


def terms_of(evaluation: Evaluation, terms: Sequence[str]) -> TermScores:
    """The terms counted in an evaluation's utterances."""
    utterances = evaluation.utterances
    return score_terms([each.reference for each in utterances], [each.hypothesis for each in utterances], terms)


def _compare(console: Console, result: TrainingResult, terms: Sequence[str]) -> None:
    sides = {"before": result.base, "after": result.tuned}
    table = evaluation_table(sides)
    counted = {name: terms_of(evaluation, terms) for name, evaluation in sides.items()}
    table.add_row("terms right, %", *(f"{each.recall or 0:.1f}" for each in counted.values()))
    console.print(table)
    wrong = [row.term for row in counted["after"].rows if row.misses]
    if wrong:
        console.print(f"still wrong somewhere: {', '.join(wrong)}")
    before = {each.id: each for each in result.base.utterances}
    captions = Table(title="the dev recording, sentence by sentence: wrong words in red", show_lines=True)
    captions.add_column("before")
    captions.add_column("after")
    for after in result.tuned.utterances[:SHOWN_CUES]:
        captions.add_row(coloured(before[after.id]), coloured(after))
    console.print(captions)


def coloured(utterance: UtteranceScore) -> Text:
    """The hypothesis: right words plain, wrong or inserted ones red, left-out ones struck through."""
    styles = {"=": "", "S": "red", "I": "red", "D": "red strike"}
    text = Text()
    for edit in utterance.alignment:
        words = edit.reference if edit.kind == "D" else edit.hypothesis
        text.append(" ".join(words), style=styles[edit.kind])
        text.append(" ")
    return text


def _captions(console: Console, recording: Path, recipe: Recipe, run: Run) -> None:
    """The whole recording as captions, by both models."""
    with AudioReader() as reader:
        samples = reader.read(recording)
    for name, model in (("before", recipe.model), ("after", str(run.folder))):
        transcript = open_transcriber(model, Options(language="en"))(samples, recording, None)
        path = run.folder / f"dev.{name}.vtt"
        write_captions(path, transcript.cues, language=transcript.language)
        begin = transcript.cues[0].text if transcript.cues else "(nothing)"
        console.print(f"captions {name}: {path}, {len(transcript.cues)} cues; they begin: {begin}", markup=False)


if __name__ == "__main__":
    if len(sys.argv) > 2 or any(each.startswith("-") for each in sys.argv[1:]):
        print(__doc__)
        sys.exit(0 if sys.argv[1] in ("-h", "--help") else 2)
    try:
        sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-run")))
    except WhispertuneError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(3)
