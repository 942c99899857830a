"""`whispertune evaluate`: decode data with a model, count the errors, and say what stands behind them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from whispertune.cli.options import Batch, Beams, Context, Engine, Json, Language, Normalizer, Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from whispertune.evaluation.analysis import Analysis
    from whispertune.evaluation.evaluate import Evaluation
    from whispertune.evaluation.examination import Examination
    from whispertune.evaluation.noise import Conditioned
    from whispertune.evaluation.recordings import Boundaries


def evaluate(
    model: Annotated[str, typer.Argument(help="A run, folder, hub name, or bundled:whisper-base.")],
    data: Annotated[str, typer.Argument(help="A folder with metadata, a manifest, or captioned recordings.")],
    language: Language = None,
    task: Task = None,
    engine: Engine = "ctranslate2",
    beams: Beams = 1,
    batch: Batch = 8,
    context: Context = "auto",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only the first rows; with --recordings, the first recordings.")
    ] = None,
    normalizer: Normalizer = None,
    terms: Annotated[Path | None, typer.Option(help="A line a term: how many of them came out right.")] = None,
    recordings: Annotated[
        bool, typer.Option("--recordings", help="Transcribe whole recordings; score words and cue times.")
    ] = False,
    noise: Annotated[
        str | None, typer.Option(help="Also in noise, at these ratios in dB: 20,10,5,0. And as through a telephone.")
    ] = None,
    noise_from: Annotated[
        str, typer.Option(help="white, babble (other rows of the data), or a folder of recordings.")
    ] = "white",
    base: Annotated[
        str | None, typer.Option(help="A model to stand beside; with --noise, of a run its own base model.")
    ] = None,
    tokens: Annotated[
        bool,
        typer.Option("--tokens", help="Teacher-forced loss, accuracy, calibration, and words that carry the loss."),
    ] = False,
    silence: Annotated[
        bool, typer.Option("--silence", help="What is written on clips of silence, noise and hum.")
    ] = False,
    entities: Annotated[
        str | None, typer.Option(help="Named entities apart: a file with one a line, or spacy:PIPELINE.")
    ] = None,
    meaning: Annotated[
        Path | None, typer.Option(help="What wrong words cost in meaning, by this sentence-transformers folder.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write everything here as an HTML page, with the worst utterances to listen to.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write each utterance and its alignment here, as JSONL.")] = None,
    json: Json = False,
) -> None:
    """WER and CER of generated text, raw and normalised, with 95 % intervals, and what stands behind them.

    [bold]whispertune evaluate my-run data/test --report test.html[/bold]
    [bold]whispertune evaluate my-run data/test --noise 20,10,5,0 --noise-from babble --json[/bold]
    [bold]whispertune evaluate bundled:whisper-base recordings/ --language sv --recordings[/bold]
    """
    from whispertune.cli.screen import Screen, print_json
    from whispertune.evaluation.noise import parse_ratios
    from whispertune.score.terms import load_terms
    from whispertune.service.evaluate import Decoding
    from whispertune.service.examine import Wanted, check_report, examine_model, write_report

    if out:
        _check(out)
    if report:
        check_report(report)
    how = Decoding(language, task, engine, beams, batch, context, limit, normalizer)
    wanted = Wanted(
        terms=load_terms(terms) if terms else (),
        recordings=recordings,
        tokens=tokens,
        silence=silence,
        noise_db=() if noise is None else parse_ratios(noise),
        noise_from=noise_from,
        base=base,
        meaning=meaning,
        entities=entities,
    )
    with Screen() as screen:
        found = examine_model(model, data, how, wanted, reporter=screen)
    if json:  # before anything is written, which may fail
        print_json(found.as_json())
    else:
        print_examination(found)
    if out:
        _write(out, found.evaluation)
    if report:
        with Screen() as screen:
            write_report(found, report, screen)
    for path in (each for each in (out, report) if each and not json):
        typer.echo(f"written to {path}")


def _check(out: Path) -> None:
    from whispertune.errors import InputError
    from whispertune.files import check_writable

    if not out.parent.is_dir():
        raise InputError("there is no such folder", where=str(out.parent), fix="make it, or choose another --out")
    if out.is_dir():
        raise InputError("is a folder", where=str(out), fix=f"name a file, such as --out {out / 'utterances.jsonl'}")
    if not out.exists():  # what is there may be a device
        check_writable(out, "choose another --out")
    elif not os.access(out, os.W_OK):
        raise InputError("cannot be written", where=str(out), fix="choose another --out")


def _write(out: Path, evaluation: Evaluation) -> None:
    from whispertune.errors import WhispertuneError
    from whispertune.score.wer import write_utterances

    try:
        write_utterances(out, evaluation.utterances)
    except OSError as error:
        fix = "evaluate again with another --out"
        raise WhispertuneError(f"the utterances are not written: {error.strerror}", where=str(out), fix=fix) from error


def print_examination(found: Examination) -> None:
    """The tables and the sentences, on stdout."""
    from whispertune.cli.screen import print_evaluations

    print_evaluations(found.evaluations)
    memory = f"; {found.peak_memory_mb:,.0f} MB of memory at most" if found.peak_memory_mb is not None else ""
    typer.echo(f"{found.real_time_factor:.3f} s of decoding a second of audio{memory}")
    for line in (*_times(found), *_texts(found.analysis), *_answers(found), *_meaning(found)):
        typer.echo(line)
    if found.noise:
        _print_noise(found.noise)


def _times(found: Examination) -> Iterator[str]:
    if (times := found.times) is None:
        return
    yield f"{times.recordings} recordings; {times.cues} cues in the captions, {times.written} in the transcripts"
    for name, each in (("start", times.starts), ("end", times.ends)):
        yield f"cue {name}s: {each.matched} of {times.cues} matched{_off(each)}"


def _off(found: Boundaries) -> str:
    if found.mean_s is None:
        return ""
    return (
        f", off by {found.mean_s:.2f} s on average, {found.median_s:.2f} s in the median, 90 % by at most "
        f"{found.p90_s:.2f} s; {found.near:.0f} % by at most half a second"
    )


def _texts(found: Analysis) -> Iterator[str]:
    if (translation := found.translation) is not None:
        for name, value, interval in (
            ("BLEU", translation.bleu, translation.bleu_interval),
            ("chrF", translation.chrf, translation.chrf_interval),
        ):
            yield f"{name} {value:.1f} ({interval[0]:.1f} to {interval[1]:.1f})"
    if (terms := found.terms) is not None:
        share = "none of them is said" if terms.recall is None else f"{terms.recall:.1f} %"
        yield f"terms: {terms.hits} of {terms.occurrences} right ({share})"
        yield f"  {terms.false_insertions} written that were not said, {terms.near} of the misses written nearly"
    signs = found.signs
    if signs.flagged:
        yield (
            f"signs of made-up text in {len(signs.flagged)} of {signs.rows} rows: {signs.loops} loops, "
            f"{signs.bursts} bursts, {signs.other_script} in another script, {signs.on_silence} on silence"
        )
    for each in found.slices:
        if each.worse:
            yield (
                f"worse than the rest: {each.attribute} {each.name}: WER normalised {each.wer_normalized:.1f} "
                f"in {each.rows} rows, {each.rest_wer_normalized:.1f} in the others"
            )


def _answers(found: Examination) -> Iterator[str]:
    if (tokens := found.tokens) is not None:
        yield (
            f"teacher-forced: loss {tokens.loss:.3f}, accuracy {tokens.accuracy:.1f} %, calibration error "
            f"{tokens.calibration_error:.1f} % of {tokens.tokens} tokens"
        )
    if (silence := found.silence) is not None:
        yield (
            f"on silence: text on {silence.clips_with_text} of {silence.clips} clips, "
            f"{silence.words_a_minute:.1f} words a minute"
        )


def _meaning(found: Examination) -> Iterator[str]:
    if (entities := found.entities) is not None:
        recall = "none" if entities.recall is None else f"{entities.recall:.1f} %"
        yield (
            f"{entities.entities} named entities ({entities.tagger}), {recall} without an error; WER normalised "
            f"{entities.alone_normalized.rate:.1f} in their words, {entities.left_out_normalized.rate:.1f} elsewhere"
        )
    if (meaning := found.meaning) is not None:
        yield (
            f"{meaning.lost:.1f} % of the meaning lost by {meaning.model}, in {len(meaning.wrong)} of {meaning.rows} "
            "rows with wrong words; a negation that was dropped or added counts as all of a row"
        )


def _print_noise(found: Mapping[str, Sequence[Conditioned]]) -> None:
    """A line a condition, a column a model."""
    from rich.console import Console
    from rich.table import Table

    figure = next(iter(found.values()))[0].evaluation.leading
    table = Table("condition", title=f"{figure.upper()} raw in noise and through a telephone, %")
    for model in found:
        table.add_column(model, justify="right")
    for of_all in zip(*found.values(), strict=True):
        scores = [each.evaluation.scores for each in of_all]
        rates = [(getattr(each, figure), getattr(each, f"{figure}_interval")) for each in scores]
        told = (f"{rate:.1f} ({low:.1f} to {high:.1f})" for rate, (low, high) in rates)
        table.add_row(of_all[0].condition.name, *told)
    Console(highlight=False).print(table)
