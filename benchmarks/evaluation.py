"""Speed of evaluation against transformers' generate, side by side in one run, on the same rows and weights.

    python -m benchmarks.evaluation --data mboshi/dev --language ln
    python -m benchmarks.evaluation --data mboshi/dev --fit-model my-run --limit 80 --json

Ours is what `whispertune evaluate` spends its time on: audio to text, on 30 s a clip, by our encoder and
CTranslate2's decoder on CPUs, else by CTranslate2; with `--fit-model`, a run that was trained for it, also on clips cut
to what is spoken. The other side is what people
write: WhisperFeatureExtractor and WhisperForConditionalGeneration.generate, rows in the order they come. Both are
greedy, in float32, read audio with the same reader, are told language and task, never generate the same tokens and
stop at the same length. Each model is decoded by both; ratios and differences are within a model.

Rows go in chunks, and the sides take turns at each, so that what else the machine does hits all of them; the ratio is
of the summed times, and the lowest and highest over chunks say how steady it is. Ours sorts rows by length, but here
only within a chunk: on whole sets its batches are fuller. Machines differ and are shared: quote the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.segments import Segment
from whispertune.decode.context import Context, mark_of
from whispertune.decode.engines import (
    MAX_NEW_TOKENS,
    best_device,
    live_engine,
    load_live,
    suppressed_tokens,
    unwarned,
)
from whispertune.evaluation.evaluate import decode_segments
from whispertune.evaluation.inputs import Source
from whispertune.model.load import ModelFolder, find_model
from whispertune.score.wer import Scores, score
from whispertune.service.data import read_data
from whispertune.windows.batches import read_whole
from whispertune.windows.features import SAMPLE_RATE_HZ

GENERATE = "transformers, generate"

Decode = Callable[[Sequence[Segment]], list[str]]  # texts in the order of the rows


@dataclass(frozen=True)
class Side:
    """One way to decode one model, and what it has taken and written so far."""

    model: str
    name: str
    decode: Decode
    seconds: list[float] = field(default_factory=list)  # a chunk
    texts: list[str] = field(default_factory=list)

    def take(self, rows: Sequence[Segment]) -> None:
        start = time.perf_counter()
        texts = self.decode(rows)
        self.seconds.append(time.perf_counter() - start)
        self.texts.extend(texts)


def ours(folder: ModelFolder, reader: AudioReader, batch: int, contexts: Sequence[Context]) -> dict[str, Decode]:
    """Our side on each context, all on one engine."""
    engine = live_engine("ctranslate2", load_live(folder))

    def on(context: Context) -> Decode:
        def decode(rows: Sequence[Segment]) -> list[str]:
            found, problems = decode_segments(engine, rows, Source(reader, context), batch=batch)
            assert not problems, problems
            return [each.text for each in found]

        return decode

    return {f"ours, {'30 s' if context == 'full' else 'fit'}": on(context) for context in contexts}


def generate(folder: ModelFolder, reader: AudioReader, batch: int) -> Decode:
    """The other side, as the tutorials have it, but for tokens and length, which are made the same as ours."""
    import torch
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    device, vocabulary = best_device(), folder.vocabulary
    extractor = WhisperFeatureExtractor.from_pretrained(folder.path)
    model = WhisperForConditionalGeneration.from_pretrained(folder.path, dtype=torch.float32).to(device).eval()
    settings = model.generation_config
    settings.suppress_tokens = suppressed_tokens(vocabulary, folder.generation)
    settings.begin_suppress_tokens = list(folder.generation.begin_suppress) or None
    settings.max_length, settings.max_new_tokens = None, MAX_NEW_TOKENS

    def decode(rows: Sequence[Segment]) -> list[str]:
        asked = {"language": rows[0].language, "task": rows[0].task} if vocabulary.multilingual else {}
        texts: list[str] = []
        for first in range(0, len(rows), batch):
            clips = [read_whole(reader, r.recording, r.start_s, r.end_s) for r in rows[first : first + batch]]
            features = extractor(clips, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features
            with torch.no_grad(), unwarned():
                sequences = model.generate(features.to(device), **asked)
            texts += [vocabulary.decode(sequence) for sequence in sequences.tolist()]
        return texts

    return decode


def measure(sides: Sequence[Side], rows: Sequence[Segment], chunk: int, warm: int) -> None:
    """Every side on every chunk, in turn; `warm` rows before, which do not count."""
    for side in sides:
        side.decode(rows[:warm])
    for number, first in enumerate(range(0, len(rows), chunk)):
        for side in sides if number % 2 == 0 else reversed(sides):
            side.take(rows[first : first + chunk])
        print(f"{min(first + chunk, len(rows))} of {len(rows)} rows, all sides", file=sys.stderr, flush=True)


def results(sides: Sequence[Side], rows: Sequence[Segment]) -> list[dict[str, Any]]:
    """A line a side, against generate on the same model."""
    return [
        _result(side, next(s for s in sides if (s.model, s.name) == (side.model, GENERATE)), rows) for side in sides
    ]


def _result(side: Side, peer: Side, rows: Sequence[Segment]) -> dict[str, Any]:
    found, other = _scores(side, rows), _scores(peer, rows)
    ratios = np.array(peer.seconds) / np.array(side.seconds)  # (chunks,)
    return {
        "model": side.model,
        "side": side.name,
        "utterances_per_second": len(rows) / sum(side.seconds),
        "real_time_factor": sum(side.seconds) / sum(row.duration_s for row in rows),
        "times_as_fast": sum(peer.seconds) / sum(side.seconds),
        "times_as_fast_lowest": float(ratios.min()),
        "times_as_fast_highest": float(ratios.max()),
        "wer": found.wer,
        "wer_difference": found.wer - other.wer,
        "cer": found.cer,
        "texts_equal": sum(map(str.__eq__, side.texts, peer.texts)),
    }


def _scores(side: Side, rows: Sequence[Segment]) -> Scores:
    return score([row.id for row in rows], [row.text for row in rows], side.texts, rows[0].language)[0]


def machine() -> str:
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {best_device()}"


def show(found: Sequence[dict[str, Any]]) -> None:
    print(f"{'model':24} {'side':24} {'utt./s':>7} {'times':>6} {'chunks':>12} {'WER':>6} {'diff.':>6} {'equal':>6}")
    for each in found:
        span = f"{each['times_as_fast_lowest']:.1f} to {each['times_as_fast_highest']:.1f}"
        print(
            f"{each['model'][-24:]:24} {each['side']:24} {each['utterances_per_second']:7.2f}"
            f" {each['times_as_fast']:6.2f} {span:>12} {each['wer']:6.1f} {each['wer_difference']:+6.2f}"
            f" {each['texts_equal']:6}"
        )


def options_given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with metadata, or any other source")
    parser.add_argument("--model", default="bundled:whisper-base")
    parser.add_argument("--fit-model", help="a run that was trained on clips cut to what is spoken")
    parser.add_argument("--language", help="for rows that name none")
    parser.add_argument("--limit", type=int, default=80, help="rows")
    parser.add_argument("--chunk", type=int, default=40, help="rows of a side before it is the next one's turn")
    parser.add_argument("--batch", type=int, default=8, help="clips of 30 s at once, on both sides")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    return parser.parse_args()


def contexts_of(options: argparse.Namespace) -> dict[str, tuple[Context, ...]]:
    """Model -> what it is decoded on."""
    models: dict[str, tuple[Context, ...]] = {options.model: ("full",)}
    if options.fit_model:
        if "fit" not in mark_of(options.fit_model).contexts:
            raise SystemExit(f"{options.fit_model} was not trained on clips cut to what is spoken")
        models[options.fit_model] = ("full", "fit")
    return models


def rows_of(options: argparse.Namespace, folder: ModelFolder, reader: AudioReader) -> list[Segment]:
    found = read_data(
        options.data,
        folder.vocabulary,
        folder.generation,
        reader,
        language=options.language,
        limit_rows=options.limit,
    )
    if len({(row.language, row.task) for row in found.segments}) != 1:
        raise SystemExit("give rows, of one language and one task")
    return list(found.segments)


def main() -> None:
    options = options_given()
    models = contexts_of(options)
    with AudioReader() as reader:
        folders = {name: find_model(name) for name in models}
        rows = rows_of(options, folders[options.model], reader)
        sides = []
        for name, folder in folders.items():
            decoders = ours(folder, reader, options.batch, models[name])
            decoders[GENERATE] = generate(folder, reader, options.batch)
            sides += [Side(name, side, decode) for side, decode in decoders.items()]
        measure(sides, rows, options.chunk, options.batch)
    found = results(sides, rows)
    if options.json:
        speech_s = sum(row.duration_s for row in rows)
        print(json.dumps({"machine": machine(), "rows": len(rows), "speech_s": round(speech_s, 1), "sides": found}))
    else:
        print(f"{machine()}; {len(rows)} rows; times: as fast as generate on the same model")
        show(found)


if __name__ == "__main__":
    main()
