"""Transcribing long recordings: timed text through faster-whisper, or transformers.

transcriber = open_transcriber("my-run", Options(language="sv"))
transcript = transcriber(samples, Path("talk.m4a"))
write_captions(Path("talk.vtt"), transcript.cues)
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from whispertune.data.captions import Cue, Word
from whispertune.decode.context import choose_context, spoken_frames
from whispertune.decode.cues import by_sentence
from whispertune.decode.engines import (
    ENGINES,
    MAX_NEW_TOKENS,
    best_device,
    live_files,
    load_live,
    threads_kept,
    unwarned,
    without_padding,
)
from whispertune.errors import InputError
from whispertune.languages import code_of
from whispertune.model.formats.transformers import complete_tokenizer
from whispertune.model.generation import Generation
from whispertune.model.load import find_model, is_ctranslate2
from whispertune.windows.features import SAMPLE_RATE_HZ
from whispertune.windows.tokens import TIMESTAMP_STEP_S, Vocabulary

CUES = ("decoded", "sentence")

Progress = Callable[[float, float], None]  # (seconds of audio done, in all)


@dataclass(frozen=True, slots=True)
class Options:
    """How to transcribe; language and task fall back to what the model was tuned for."""

    language: str | None = None  # None: the model's own, else detected
    task: str | None = None
    engine: str = "ctranslate2"
    beams: int = 1
    words: bool = False  # with a time for every word
    cues: str = "decoded"  # as the model cut them, or "sentence": regrouped
    max_line_characters: int = 42
    max_cue_s: float = 7.0
    context: str = "auto"  # "full": 30 s; "fit": cut to the speech where it ends; auto: fit where it was trained


@dataclass(frozen=True, slots=True)
class Transcript:
    """Timed text of one recording."""

    recording: Path
    language: str
    cues: tuple[Cue, ...]
    audio_seconds: float
    seconds: float  # of decoding


Transcriber = Callable[[np.ndarray, Path, Progress | None], Transcript]


def open_transcriber(name: str, options: Options, say: Callable[[str], None] = lambda text: None) -> Transcriber:
    """A function from 16 kHz samples to a Transcript, with the model loaded once; `say` is told of what may go wrong.

    Raises:
        ModelError: no such model. InputError: the engine cannot do what is asked.
    """
    if options.engine not in ENGINES:
        raise InputError(f"unknown engine {options.engine!r}", where="--engine", fix=f"one of {', '.join(ENGINES)}")
    if options.cues not in CUES:
        raise InputError(f"unknown kind of cues {options.cues!r}", where="--cues", fix=f"one of {', '.join(CUES)}")
    path = Path(name).expanduser()
    options = replace(options, context=choose_context(options.context, name, say))
    if options.engine == "ctranslate2":
        if path.is_dir() and is_ctranslate2(path):
            vocabulary = Vocabulary.from_file(path / "tokenizer.json")
            return _FasterWhisper(
                _faster_whisper(str(path), options), options, Generation.from_ctranslate2(path), vocabulary
            )
        live = load_live(find_model(name))
        files = live_files(live) | {
            "tokenizer.json": complete_tokenizer(live.tokenizer_json),
            "preprocessor_config.json": json.dumps({"feature_size": live.shape.n_mels}).encode(),
        }
        whisper = _faster_whisper(name, options, files=files, compute_type="float32")
        return _FasterWhisper(whisper, options, live.generation, live.vocabulary)
    if options.words or options.cues == "sentence":
        raise InputError("word times come from faster-whisper", where="--engine", fix="use --engine ctranslate2")
    return _Transformers(name, options)


def _faster_whisper(path: str, options: Options, **how: Any) -> Any:
    from faster_whisper import WhisperModel

    class FitModel(WhisperModel):  # type: ignore[misc, unused-ignore]
        """Leaves out the zeros that a window is filled up with: the last of a long recording, the only of a clip."""

        def encode(self, features: np.ndarray) -> Any:
            frames = spoken_frames((features != 0).any(axis=0))
            if frames // 2 == len(features):  # ctranslate2 would take so many states for a mel
                frames += 2
            return super().encode(features[..., :frames])

    with threads_kept():
        return (FitModel if options.context == "fit" else WhisperModel)(path, device="auto", **how)


def _speech(options: Options, generation: Generation, vocabulary: Vocabulary) -> tuple[str | None, str]:
    """The language (None: to be detected) and task to decode with."""
    asked = options.language and (code_of(options.language) or options.language)
    language = asked or generation.language or (None if vocabulary.multilingual else "en")
    if language is not None:
        vocabulary.check_language(language, where="--language")
    task = options.task or generation.task or "transcribe"
    vocabulary.check_task(task, where="--task")
    return language, task


class _FasterWhisper:
    """Voice activity detection, then windows one after the other."""

    def __init__(self, whisper: Any, options: Options, generation: Generation, vocabulary: Vocabulary) -> None:
        self.whisper, self.options, self.generation = whisper, options, generation
        self.language, self.task = _speech(options, generation, vocabulary)

    def __call__(self, samples: np.ndarray, recording: Path, progress: Progress | None = None) -> Transcript:
        start = time.perf_counter()
        total_s = len(samples) / SAMPLE_RATE_HZ
        segments, info = self.whisper.transcribe(
            samples,
            language=self.language,
            task=self.task,
            beam_size=self.options.beams,
            vad_filter=True,
            word_timestamps=self.options.words or self.options.cues == "sentence",
            condition_on_previous_text=False,
            suppress_tokens=list(self.generation.suppress) or None,
        )
        cues = tuple(_cues(segments, total_s, progress))
        if self.options.cues == "sentence" and cues:
            longest, line = self.options.max_cue_s, self.options.max_line_characters
            cues = by_sentence(cues, max_duration_s=longest, max_line_characters=line)
        if not self.options.words:
            cues = tuple(replace(cue, words=()) for cue in cues)
        return Transcript(recording, info.language, cues, total_s, time.perf_counter() - start)


def _cues(segments: Iterable[Any], total_s: float, progress: Progress | None) -> Iterable[Cue]:
    for segment in segments:
        words = tuple(Word(word.start, word.end, word.word) for word in segment.words or ())
        end_s = _end_s(segment.start, segment.end, total_s)
        if text := segment.text.strip():
            yield Cue(round(segment.start, 3), round(end_s, 3), text, words=words)
        if progress:
            progress(min(segment.end, total_s), total_s)
    if progress:
        progress(total_s, total_s)


def _end_s(begin_s: float, end_s: float, total_s: float) -> float:
    """A cue ends with its recording, but lasts a timestamp's step at least: no text is without a time."""
    least_s = begin_s + TIMESTAMP_STEP_S
    return min(max(end_s, least_s), max(total_s, least_s))


class _Transformers:
    """transformers' own long-form generation, without voice activity detection."""

    def __init__(self, name: str, options: Options) -> None:
        from transformers import WhisperFeatureExtractor

        self.live = load_live(find_model(name))
        self.live.model.to(best_device())
        self.extractor = WhisperFeatureExtractor(feature_size=self.live.shape.n_mels)
        self.options = options
        self.language, self.task = _speech(options, self.live.generation, self.live.vocabulary)

    def __call__(self, samples: np.ndarray, recording: Path, progress: Progress | None = None) -> Transcript:
        import torch

        start = time.perf_counter()
        total_s = len(samples) / SAMPLE_RATE_HZ
        features = self.extractor(
            samples,
            sampling_rate=SAMPLE_RATE_HZ,
            return_tensors="pt",
            return_attention_mask=True,
            truncation=False,
            padding="longest" if total_s > 30 or self.options.context == "fit" else "max_length",
        ).to(self.live.model.device)
        multilingual = self.live.vocabulary.multilingual
        fitting = without_padding(self.live.model) if self.options.context == "fit" else nullcontext()
        with torch.no_grad(), fitting, unwarned():
            language = self.language or self._detected(features.input_features)
            found = self.live.model.generate(
                features.input_features,
                attention_mask=features.attention_mask,
                return_timestamps=True,
                return_segments=True,
                num_beams=self.options.beams,
                max_new_tokens=MAX_NEW_TOKENS,
                **({"language": language, "task": self.task} if multilingual else {}),
            )
        cues = []
        for segment in found["segments"][0]:
            begin_s = min(float(segment["start"]), max(0.0, total_s - TIMESTAMP_STEP_S))
            end_s = _end_s(begin_s, float(segment["end"]), total_s)
            if text := self.live.vocabulary.decode(segment["tokens"].tolist()).strip():
                cues.append(Cue(round(begin_s, 3), round(end_s, 3), text))
        if progress:
            progress(total_s, total_s)
        return Transcript(recording, language, tuple(cues), total_s, time.perf_counter() - start)

    def _detected(self, mel: Any) -> str:
        """What is spoken in the first 30 s of a mel, (1, n_mels, frames)."""
        (token,) = self.live.model.detect_language(mel).tolist()
        codes = {id_: code for code, id_ in self.live.vocabulary.languages.items()}
        return codes[token]
