"""Times in TTML: of the clock, with frames or fractions, and offsets in hours to ticks.

    clock = Clock.of({"ttp:frameRate": "25"})
    clock.seconds("00:01:02:05")  # Fraction(311, 5): 62.2 s
    clock.seconds("340ms")  # Fraction(17, 50)

Fractions, because thousands of frames of 1001/30000 s are to add up exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

_CLOCK = re.compile(
    r"(?P<hours>[0-9]{1,4}):(?P<minutes>[0-5][0-9]):(?P<seconds>[0-5][0-9])"
    r"(?:(?P<fraction>\.[0-9]{1,18})|:(?P<frames>[0-9]{1,4})(?:\.(?P<sub_frames>[0-9]{1,4}))?)?"
)
_OFFSET = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(h|ms|m|s|f|t)")
_MULTIPLIER = re.compile(r"([0-9]{1,9})(?:[ :]([0-9]{1,9}))?")  # the colon is of the drafts of TTML


@dataclass(frozen=True, slots=True)
class Clock:
    """What the parameters of a file make of the times in it; the defaults are those of TTML."""

    frame_rate: int = 30  # frames that a second counts
    true_rate: Fraction = Fraction(30)  # frames that a second of the recording has, as 29.97
    sub_frames: int = 1  # of a frame
    tick_rate: int = 1
    smpte: bool = False  # whether seconds are so many frames, and as long as those are
    drop_mode: str = "nonDrop"

    @staticmethod
    def of(attributes: Mapping[str, str]) -> Clock:
        """The clock that the attributes of the root name; a ValueError with a sentence where there is none."""
        time_base = attributes.get("ttp:timeBase", "media")
        drop_mode = attributes.get("ttp:dropMode", "nonDrop")
        if time_base not in ("media", "smpte"):
            raise ValueError(f'ttp:timeBase="{time_base}": its times are not those of a recording')
        smpte = time_base == "smpte"
        if smpte and attributes.get("ttp:markerMode") == "discontinuous":
            raise ValueError('ttp:markerMode="discontinuous": its times are marks, not those of a recording')
        if drop_mode not in ("nonDrop", "dropNTSC", "dropPAL"):
            raise ValueError(f'ttp:dropMode="{drop_mode}" is not known')
        frame_rate, sub_frames = _count(attributes, "ttp:frameRate", 30), _count(attributes, "ttp:subFrameRate", 1)
        written = attributes.get("ttp:frameRateMultiplier", "1")
        multiplier = _MULTIPLIER.fullmatch(written.strip())
        if multiplier is None or not int(multiplier[1]) or not int(multiplier[2] or 1):
            raise ValueError(f'ttp:frameRateMultiplier="{written}" is not like "1000 1001"')
        true_rate = frame_rate * Fraction(int(multiplier[1]), int(multiplier[2] or 1))
        ticks = frame_rate * sub_frames if "ttp:frameRate" in attributes else 1
        return Clock(frame_rate, true_rate, sub_frames, _count(attributes, "ttp:tickRate", ticks), smpte, drop_mode)

    def seconds(self, text: str) -> Fraction:
        """A time as it is written, in seconds; a ValueError with a sentence where it is none."""
        if offset := _OFFSET.fullmatch(text.strip()):
            return Fraction(offset[1]) * self._unit(offset[2])
        time = _CLOCK.fullmatch(text.strip())
        if time is None:
            raise ValueError("is no time like 00:01:02.500, 00:01:02:12 or 62.5s")
        hours, minutes, whole = int(time["hours"]), int(time["minutes"]), int(time["seconds"])
        frames = self._frames(int(time["frames"] or 0), int(time["sub_frames"] or 0))
        seconds = 3600 * hours + 60 * minutes + whole + Fraction(time["fraction"] or 0)
        if not self.smpte:
            return seconds + frames / self.true_rate
        if time["fraction"] and self.true_rate != self.frame_rate:
            raise ValueError(f"has a fraction of a second where seconds have {self.frame_rate} frames")
        return (seconds * self.frame_rate + frames - self._dropped(hours, minutes)) / self.true_rate

    def _unit(self, name: str) -> Fraction:
        if name in ("f", "t"):
            return 1 / self.true_rate if name == "f" else Fraction(1, self.tick_rate)
        return {"h": Fraction(3600), "m": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000)}[name]

    def _frames(self, frames: int, sub_frames: int) -> Fraction:
        if frames >= self.frame_rate:
            raise ValueError(f"has frame {frames} where a second has {self.frame_rate}, from 0 (ttp:frameRate)")
        if sub_frames >= self.sub_frames:
            raise ValueError(f"has part {sub_frames} of a frame that has {self.sub_frames}, from 0 (ttp:subFrameRate)")
        return frames + Fraction(sub_frames, self.sub_frames)

    def _dropped(self, hours: int, minutes: int) -> int:
        """Frame numbers that were left out up to here, so that counted time keeps up with true time."""
        if self.drop_mode == "dropNTSC":  # two a minute but for each tenth
            return (54 * hours + minutes - minutes // 10) * 2
        if self.drop_mode == "dropPAL":  # four every other minute but for each twentieth
            return (27 * hours + minutes // 2 - minutes // 20) * 4
        return 0


def _count(attributes: Mapping[str, str], name: str, default: int) -> int:
    written = attributes.get(name, str(default)).strip()
    if not re.fullmatch("[0-9]{1,12}", written) or not int(written):
        raise ValueError(f'{name}="{written}" is no whole number above 0')
    return int(written)
