"""Robustness: the same rows in noise and through a telephone, and what that does to the error rates.

    wanted = conditions_of(parse_ratios("20,10,5,0"), noise="babble")   # clean, four ratios, a telephone
    found = evaluate_conditions(engine, segments, Source(reader, kept=kept), wanted)
    found[1].condition.name, found[1].evaluation.scores.wer          # "babble 20 dB", per cent
    noise_section({"base": of_base, "my-run": found})                # a plot and the table behind it

The ratio is one of active levels: speech and noise are each measured without their pauses (the 20 ms stretches
within 30 dB of the loudest). Noise lies under the row's own audio; the silence that fills a window stays silent.
A row gets the same noise at every ratio, every time and for every model, only louder or softer: what changes
between two figures is the ratio or the model. Digital silence has no ratio and stays as it is.

White noise is Gaussian. Babble is up to six other rows of the data at once, of other speakers where those are known.
The telephone band goes from 300 to 3,400 Hz, without noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.keyed import keyed_rng
from whispertune.data.segments import Segment
from whispertune.decode.engines import Engine
from whispertune.drawing.lines import Line, lines
from whispertune.drawing.markup import Markup, element
from whispertune.drawing.tables import table
from whispertune.errors import AudioError, DataError, InputError
from whispertune.evaluation.evaluate import Evaluation, Progress, evaluate_source
from whispertune.evaluation.inputs import Change, Source
from whispertune.score.normalize import Normalizer
from whispertune.windows.batches import read_whole
from whispertune.windows.features import WINDOW_SAMPLES
from whispertune.windows.noise import NoiseFolder
from whispertune.windows.waveform import Samples, active_power, telephone, with_noise

SEED: Final = 0  # of all noise there is, so that figures of two days can be compared
MOST_DB: Final = 60.0  # either way; beyond it there is nothing to hear of the one or the other
LEAST_POWER: Final = 1e-10  # -100 dB: what is softer is silence and makes no noise

VOICES: Final = 6  # at once make babble
LEAST_VOICES: Final = 2
POOL_ROWS: Final = 40  # the voices are drawn from; at most 80 MB
DRAWS: Final = 20  # of a folder of noise, before it is given up for silent or broken

NoiseSource = Callable[[Segment, int], Samples]  # (row, samples) -> noise for it, (samples,)


@dataclass(frozen=True, slots=True)
class Condition:
    """How the rows are heard: as they are, in noise, or through a telephone."""

    snr_db: float | None = None  # None: without noise
    noise: str = ""  # "white", "babble", or a folder of recordings
    telephone: bool = False

    @property
    def kind(self) -> str:
        """What is heard besides the speech, in a word; nothing where it is speech alone."""
        return Path(self.noise).name or self.noise

    @property
    def name(self) -> str:
        heard = [] if self.snr_db is None else [f"{self.kind} {self.snr_db:g} dB"]
        return ", ".join(heard + ["telephone"] * self.telephone) or "clean"


CLEAN: Final = Condition()
TELEPHONE: Final = Condition(telephone=True)


@dataclass(frozen=True, slots=True)
class Conditioned:
    """One model's scores under one condition."""

    condition: Condition
    evaluation: Evaluation

    def as_json(self) -> dict[str, Any]:
        """The figures under the names that `evaluate --noise --json` promises; rates in per cent."""
        scores = self.evaluation.scores
        return {
            "condition": self.condition.name,
            "noise": self.condition.noise or None,
            "snr_db": self.condition.snr_db,
            "telephone": self.condition.telephone,
            "rows": scores.rows,
            "wer": scores.wer,
            "wer_interval": list(scores.wer_interval),
            "wer_normalized": scores.wer_normalized,
            "cer": scores.cer,
            "cer_interval": list(scores.cer_interval),
        }


def parse_ratios(text: str) -> tuple[float, ...]:
    """Signal-to-noise ratios as `--noise` takes them, the quietest noise first, each once.

    Raises:
        InputError: what is no number, or beyond 60 dB.
    """
    found = []
    for part in text.split(","):
        try:
            ratio = float(part)
        except ValueError:
            ratio = math.nan
        if not abs(ratio) <= MOST_DB:
            what = f"{part.strip()!r} is no signal-to-noise ratio in dB between -{MOST_DB:g} and {MOST_DB:g}"
            raise InputError(what, where="--noise", fix="numbers with commas between them, such as 20,10,5,0")
        found.append(ratio + 0.0)  # no minus zero
    return tuple(sorted(set(found), reverse=True))


def conditions_of(ratios_db: Sequence[float], noise: str = "white") -> tuple[Condition, ...]:
    """Clean, each ratio, and the telephone, in this order."""
    return CLEAN, *(Condition(ratio, noise) for ratio in ratios_db), TELEPHONE


def evaluate_conditions(
    engine: Engine,
    segments: Sequence[Segment],
    source: Source,
    conditions: Sequence[Condition],
    *,
    batch: int = 8,
    beams: int = 1,
    normalizer: Normalizer | None = None,
    noise: NoiseSource | None = None,
    progress: Progress | None = None,
) -> tuple[Conditioned, ...]:
    """Decode and score the segments under each condition; `progress` counts rows of all conditions.

    What the source keeps of one model is what it gives another one under the same condition. The `noise` of all
    conditions may have been made before, else each has that of its name.

    Raises:
        DataError: no row decodes, or there is nothing to make the noise of.
    """
    names = dict.fromkeys(each.noise for each in conditions if each.snr_db is not None)
    sources = {name: noise or noise_source(name, segments, source.reader) for name in names}
    found = []
    for place, condition in enumerate(conditions):
        change = change_of(condition, sources.get(condition.noise))
        evaluation = evaluate_source(
            engine,
            segments,
            replace(source, change=change, condition=_kept_as(condition)),
            batch=batch,
            beams=beams,
            normalizer=normalizer,
            progress=_part(progress, place, len(conditions)),
        )
        found.append(Conditioned(condition, evaluation))
    return tuple(found)


def _kept_as(condition: Condition) -> str:
    return "" if condition == CLEAN else condition.name


def _part(progress: Progress | None, place: int, parts: int) -> Progress | None:
    """Progress of one of several parts as that of all, which are of one size."""
    if progress is None:
        return None
    return lambda done, total: progress(place * total + done, parts * total)


def change_of(condition: Condition, source: NoiseSource | None = None) -> Change | None:
    """What a condition does to the audio of a row; None where it does nothing. What would clip is made quieter."""
    if condition == CLEAN:
        return None

    def change(samples: Samples, segment: Segment) -> Samples:
        heard = samples
        if not len(heard):
            return heard
        if condition.snr_db is not None and source is not None:
            heard = with_noise(heard, source(segment, len(heard)), condition.snr_db)
        if condition.telephone:
            heard = telephone(heard)
        peak = float(np.abs(heard).max())
        return heard / np.float32(peak) if peak > 1.0 else heard

    return change


# --- what noise there is ---------------------------------------------------------------------------------------


def noise_source(noise: str, segments: Sequence[Segment], reader: AudioReader) -> NoiseSource:
    """What makes the noise of a name for any row: "white", "babble" of these segments, or a folder's recordings.

    Raises:
        DataError: too few rows for babble; no such folder, or nothing in it that can be heard.
    """
    if noise == "white":
        return white
    return Babble(segments, reader) if noise == "babble" else FolderNoise(Path(noise).expanduser(), reader)


def white(segment: Segment, samples: int) -> Samples:
    """Gaussian noise of a row: float32, (samples,)."""
    return keyed_rng(SEED, "white", segment.id).standard_normal(samples, dtype=np.float32)


class Babble:
    """Up to six other rows of the data at once, each as loud as the next, each from a place of its own on.

    They are drawn from 40 rows that are read once. Where enough of those are of other speakers than the row, only
    those are heard.
    """

    def __init__(self, segments: Sequence[Segment], reader: AudioReader) -> None:
        """Reads the rows that babble is made of.

        Raises:
            DataError: not enough rows of which something can be heard.
        """
        self._voices = _voices(segments, reader)
        if len(self._voices) <= LEAST_VOICES:
            what = f"babble is made of at least {LEAST_VOICES} other rows of the data, and there are too few to hear"
            raise DataError(what, where="--noise-from", fix="give more rows, or choose white noise")

    def __call__(self, segment: Segment, samples: int) -> Samples:
        rng = keyed_rng(SEED, "babble", segment.id)
        others = self._others(segment)
        mixed = np.zeros(samples, dtype=np.float32)
        for index in rng.choice(len(others), min(VOICES, len(others)), replace=False):
            voice = others[index]
            mixed += np.resize(np.roll(voice, -int(rng.integers(len(voice)))), samples)
        return mixed

    def _others(self, segment: Segment) -> list[Samples]:
        others = [(row, voice) for row, voice in self._voices if row.id != segment.id]
        strangers = [voice for row, voice in others if row.speaker != segment.speaker]
        return strangers if len(strangers) >= LEAST_VOICES else [voice for _, voice in others]


def _voices(segments: Sequence[Segment], reader: AudioReader) -> list[tuple[Segment, Samples]]:
    """Rows drawn from all over the data, with their audio at one active level."""
    found: list[tuple[Segment, Samples]] = []
    for index in keyed_rng(SEED, "voices").permutation(len(segments)):
        segment = segments[int(index)]
        try:
            samples = read_whole(reader, segment.recording, segment.start_s, segment.end_s)[:WINDOW_SAMPLES]
        except AudioError:
            continue  # it is among the problems of the evaluation, as a row
        power = active_power(samples) if len(samples) else 0.0
        if power > LEAST_POWER:
            found.append((segment, np.asarray(samples / math.sqrt(power), dtype=np.float32)))
        if len(found) == POOL_ROWS:
            break
    return found


class FolderNoise:
    """A stretch of one of the recordings in a folder."""

    def __init__(self, folder: Path, reader: AudioReader) -> None:
        """Lists the folder.

        Raises:
            DataError: there is no such folder, or no recording in it that can be read.
        """
        self._folder = folder
        try:
            self._noises = NoiseFolder(folder, reader)
        except DataError as error:
            raise _no_noise(error.what) from error

    def __call__(self, segment: Segment, samples: int) -> Samples:
        rng = keyed_rng(SEED, "recorded", segment.id)
        for _ in range(DRAWS):
            try:
                noise = self._noises.draw(rng, samples)
            except DataError as error:
                raise _no_noise(error.what) from error
            if noise is not None and active_power(noise) > LEAST_POWER:
                return noise
        raise _no_noise(f"what was drawn from {self._folder} does not decode or is silent, {DRAWS} times in a row")


def _no_noise(what: str) -> DataError:
    fix = "white, babble, or a folder of recordings of noise"
    return DataError(what, where="--noise-from", fix=fix)


# --- what people see -------------------------------------------------------------------------------------------

HEADS: Final = ("Condition", "Model", "WER, %", "95 %", "CER, %", "95 %", "More than clean, points")
CLASSES: Final = ("", "where", "number", "number", "number", "number", "number")


def noise_section(found: Mapping[str, Sequence[Conditioned]]) -> Markup:
    """A curve a model over the signal-to-noise ratio, and all figures in a table; nothing where there are none."""
    every = [each for of_model in found.values() for each in of_model]
    if not every:
        return Markup()
    unit = every[0].evaluation.leading.upper()
    kinds = list(dict.fromkeys(each.condition.kind for each in every if each.condition.snr_db is not None))
    title = f"{unit} in {', '.join(kinds)} noise" if kinds else unit
    drawn = lines(_curves(found, kinds), title, "signal-to-noise ratio, dB", f"{unit}, %")
    return element(
        "section",
        element("h2", "In noise and through a telephone"),
        element("p", _told(every)),
        drawn,
        table(
            "Raw errors under each condition, with 95 % bootstrap intervals",
            HEADS,
            rows_of(found),
            classes=CLASSES,
            id_="noise-table",
        ),
    )


def rows_of(found: Mapping[str, Sequence[Conditioned]]) -> list[tuple[str, ...]]:
    """The table behind the plot: under each condition each model."""
    order = dict.fromkeys(each.condition for of_model in found.values() for each in of_model)
    rows = []
    for condition in order:
        for model, of_model in found.items():
            rows += [_row(model, each, of_model) for each in of_model if each.condition == condition]
    return rows


def _row(model: str, found: Conditioned, of_model: Sequence[Conditioned]) -> tuple[str, ...]:
    scores = found.evaluation.scores
    clean = next((each for each in of_model if each.condition == CLEAN), found)
    more = "–" if clean is found else f"{_rate(found)[0] - _rate(clean)[0]:+.1f}"
    return (
        found.condition.name,
        model,
        f"{scores.wer:.1f}",
        _interval(scores.wer_interval),
        f"{scores.cer:.1f}",
        _interval(scores.cer_interval),
        more,
    )


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.1f} to {interval[1]:.1f}"


def _curves(found: Mapping[str, Sequence[Conditioned]], kinds: Sequence[str]) -> list[Line]:
    """Of each model, and of each kind of noise where there are several, the rates over the ratio."""
    curves = []
    for model, of_model in found.items():
        for kind in kinds:
            points = sorted(
                (ratio, *_rate(each))
                for each in of_model
                if (ratio := each.condition.snr_db) is not None and each.condition.kind == kind
            )
            name = f"{model}, {kind}" if len(kinds) > 1 else model
            curves.append(Line(name, *(tuple(point[at] for point in points) for at in range(4))))
    return curves


def _rate(found: Conditioned) -> tuple[float, float, float]:
    """The rate that leads, and its interval."""
    scores = found.evaluation.scores
    if found.evaluation.leading == "cer":
        return scores.cer, *scores.cer_interval
    return scores.wer, *scores.wer_interval


def _told(every: Sequence[Conditioned]) -> str:
    scores = every[0].evaluation.scores
    return (
        f"{scores.rows} rows. The ratio is between the levels of speech and noise where both are heard, pauses apart. "
        "A row has the same noise for every model and, louder or softer, at every ratio. The telephone carries "
        "300 to 3,400 Hz, without noise. The last column is of the rate that is drawn."
    )
