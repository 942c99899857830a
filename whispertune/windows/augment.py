"""Augmentation: what is done to speech in training, and never to dev or test.

    augmenter = Augmenter(AugmentSettings(**recipe.augment.model_dump()), seed, reader)
    samples = augmenter.samples(samples, key)                   # one piece; the same length
    masks = augmenter.masks([(0, 240), (262, 800)], key)        # mel frames of each segment of a window
    apply_masks(mel, [masks])                                   # in place, on any device

Everything is drawn from the seed, the key of the window and the name of what is drawn: the same on every rank,
thread and day, and one kind of augmentation more changes nothing in the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from whispertune.data.audio import AudioReader
from whispertune.data.keyed import keyed_rng
from whispertune.data.segments import Problem
from whispertune.errors import RecipeError
from whispertune.windows import waveform
from whispertune.windows.noise import NoiseFolder
from whispertune.windows.waveform import Samples

if TYPE_CHECKING:
    import torch

MASKED_AT_MOST = 0.5  # of the frames of an utterance, and of its bins: a quarter of it is always there


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """The table `augment` of a recipe, where the meaning of each and all defaults stand.

    `speed` is drawn in the plan, because it changes how long a piece is; it is here for `active`.
    """

    time_masks: int
    time_mask_share: float
    frequency_masks: int
    frequency_mask_share: float
    speed: tuple[float, ...]
    pitch_semitones: float
    pitch_share: float
    gain_db: float
    noise: str | None
    noise_snr_db: tuple[float, float]
    noise_share: float
    room_share: float
    telephone_share: float
    codec_share: float


@dataclass(frozen=True, slots=True)
class Mask:
    """A rectangle of a window's mel: frames [first, end), and bins from one share of them to another."""

    first_frame: int
    end_frame: int
    first_share: float = 0.0  # of the mel bins, from the lowest
    end_share: float = 1.0

    def bins(self, n_mels: int) -> slice:
        """Of so many bins; rounded so that masks together never take more than their shares do together."""
        first = int(self.first_share * n_mels)
        return slice(first, first + int((self.end_share - self.first_share) * n_mels))


class Augmenter:
    """Changes samples and draws masks, as a recipe says. Threads may share it."""

    def __init__(self, settings: AugmentSettings, seed: int, reader: AudioReader) -> None:
        """Looks at once at what is asked for: the noise is listed, what is not installed is missed.

        Raises:
            RecipeError: what cannot be, or needs what is not installed.
            DataError: a folder of noise that is missing or holds nothing to be heard.
        """
        self.settings, self.seed = settings, seed
        self._noise: NoiseFolder | None = None
        self._changes = tuple(self._asked_for())  # in the order of nature: voice, room, what else sounds, the line
        _check(settings)
        names = {name for name, _, _ in self._changes}
        if "pitch" in names:
            waveform.need_pitch()
        if "codec" in names:
            waveform.need_codec()
        if "noise" in names and settings.noise is not None:
            self._noise = NoiseFolder(Path(settings.noise), reader)

    @property
    def active(self) -> bool:
        """Whether the encoder hears anything but the recordings as they are; its outputs can be kept where not."""
        return self.changes_audio or self.masks_mel

    @property
    def changes_audio(self) -> bool:
        """Whether samples change, in `samples` or by speed."""
        return bool(self._changes) or any(factor != 1.0 for factor in self.settings.speed)

    @property
    def masks_mel(self) -> bool:
        """Whether `masks` may give any."""
        of_time = self.settings.time_masks and self.settings.time_mask_share
        return bool(of_time or (self.settings.frequency_masks and self.settings.frequency_mask_share))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Recordings of noise that do not decode, as far as that is known by now."""
        return self._noise.problems if self._noise else ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the noise before the start."""
        if not self.problems or not self._noise:
            return ()
        count, first = len(self.problems), self.problems[0]
        every = count + len(self._noise)
        return (f"{count} of {every} recordings of noise cannot be read, e.g. {first.where}: {first.detail}",)

    def samples(self, audio: Samples, key: Sequence[int]) -> Samples:
        """The samples of one piece as they are to be heard this time: (samples,), the same length and not moved.

        `audio` itself stays as it is. What would clip is made quieter.
        """
        heard = audio
        for name, share, change in self._changes if len(audio) else ():
            rng = keyed_rng(self.seed, "augment", name, *key)
            if rng.random() < share:
                heard = change(heard, rng)
        peak = float(np.abs(heard).max()) if heard is not audio else 0.0
        return heard / np.float32(peak) if peak > 1.0 else heard

    def masks(self, spans: Sequence[tuple[int, int]], key: Sequence[int]) -> tuple[Mask, ...]:
        """SpecAugment (Park et al., 2019) for one window: masks of their own for each segment's frames [first, end).

        Segments follow each other. Whatever is asked for, half of a segment's frames have no mask of time, and
        half of the bins in them no mask of frequency.
        """
        rng = keyed_rng(self.seed, "masks", *key)
        return tuple(mask for first, end in spans if first < end for mask in self._of_segment(first, end, rng))

    def _of_segment(self, first: int, end: int, rng: np.random.Generator) -> Iterator[Mask]:
        length = end - first
        most, free = int(self.settings.time_mask_share * length), int(MASKED_AT_MOST * length)
        for width_drawn, place in rng.random((self.settings.time_masks, 2)):
            width = min(int(width_drawn * (most + 1)), free)
            free -= width
            begin = first + int(place * (length - width + 1))
            if width:
                yield Mask(begin, begin + width)
        share, left = self.settings.frequency_mask_share, MASKED_AT_MOST
        for width_drawn, place in rng.random((self.settings.frequency_masks, 2)):
            wide = min(width_drawn * share, left)
            left -= wide
            low = place * (1.0 - wide)
            if wide:
                yield Mask(first, end, low, low + wide)

    def _asked_for(self) -> Iterator[tuple[str, float, Callable[[Samples, np.random.Generator], Samples]]]:
        """Name, share and function of what changes samples."""
        asked = self.settings
        changes: dict[str, tuple[float, Callable[[Samples, np.random.Generator], Samples]]] = {
            "pitch": (asked.pitch_share if asked.pitch_semitones else 0.0, self._pitch),
            "room": (asked.room_share, lambda audio, rng: waveform.in_room(audio, waveform.room_response(rng))),
            "noise": (asked.noise_share if asked.noise is not None else 0.0, self._with_noise),
            "gain": (1.0 if asked.gain_db else 0.0, self._gain),
            "telephone": (asked.telephone_share, lambda audio, _: waveform.telephone(audio)),
            "codec": (asked.codec_share, _coded),
        }
        return ((name, share, change) for name, (share, change) in changes.items() if share > 0)

    def _pitch(self, audio: Samples, rng: np.random.Generator) -> Samples:
        most = self.settings.pitch_semitones
        return waveform.pitched(audio, float(rng.uniform(-most, most)))

    def _gain(self, audio: Samples, rng: np.random.Generator) -> Samples:
        most = self.settings.gain_db
        return audio * np.float32(10 ** (rng.uniform(-most, most) / 20))

    def _with_noise(self, audio: Samples, rng: np.random.Generator) -> Samples:
        snr_db = float(rng.uniform(*self.settings.noise_snr_db))
        noise = self._noise.draw(rng, len(audio)) if self._noise else None
        return audio if noise is None else waveform.with_noise(audio, noise, snr_db)


def _coded(audio: Samples, rng: np.random.Generator) -> Samples:
    return waveform.coded(audio, int(rng.choice(waveform.MP3_BITS_PER_S)))


def _check(settings: AugmentSettings) -> None:
    if settings.pitch_semitones > waveform.MAX_SEMITONES:
        what = f"pitch moves by at most {waveform.MAX_SEMITONES} semitones, not {settings.pitch_semitones:g}"
        raise RecipeError(what, where="augment.pitch_semitones", fix="2 or 3 sounds like another speaker")
    low, high = settings.noise_snr_db
    if low > high:
        what = f"the first of the two must be the lower one, not {low:g} and {high:g}"
        raise RecipeError(what, where="augment.noise_snr_db", fix=f"write [{high:g}, {low:g}]")


def apply_masks(mel: torch.Tensor, masks: Sequence[Sequence[Mask]]) -> None:
    """Blank the masks of each row, in place: float32, (rows, n_mels, frames), on any device.

    They are filled with the mean of what the row hears, its silence left out. Whisper takes the floor of the
    mel for silence, and text over silence would teach it to invent; the mean is nothing that a recording has.
    """
    import torch

    if not any(masks):
        return
    hidden = np.zeros(mel.shape, dtype=np.bool_)
    for row, of_row in enumerate(masks):
        for mask in of_row:
            hidden[row, mask.bins(mel.shape[1]), mask.first_frame : mask.end_frame] = True
    floor = mel.amin(dim=(1, 2), keepdim=True)
    above = mel - floor
    mean = floor + above.sum(dim=(1, 2), keepdim=True) / above.count_nonzero(dim=(1, 2))[:, None, None].clamp_(min=1)
    torch.where(torch.from_numpy(hidden).to(mel.device), mean, mel, out=mel)
