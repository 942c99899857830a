"""Recordings with captions beside them: talk.mp3 and talk.vtt, talk.srt, talk.ass, talk.ttml or talk.sv.vtt.

    read_captioned(SourceSpec("talks", language="sv"), audio)     # the folder and all below it
    read_captioned(SourceSpec("talks/opening.mp3"), audio)        # beside opening.sv.vtt

Of one recording's captions in several formats, .vtt is read rather than .srt, then .ass or .ssa, then .ttml or
.dfxp. The language is that of the recipe, else the one in the file's name, else the one that the file states.
Names are compared as Unicode NFC, for files that come from a Mac.
Cues stay whole. Each cue that cannot be used, and each file without its other half, is a Problem.
"""

from __future__ import annotations

import math
import os
import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from mimetypes import guess_type
from pathlib import Path

from whispertune.data.audio import AudioReader
from whispertune.data.captions import Captions, Cue, read_captions
from whispertune.data.segments import Problem, Segment, SourceData, SourceSpec
from whispertune.data.sources.paths import files_below
from whispertune.data.sources.rows import (
    OVERLAP_TOLERANCE_S,
    ROUNDING_S,
    Spoken,
    Trouble,
    language_of,
    linked,
    time_trouble,
)
from whispertune.errors import AudioError, DataError
from whispertune.languages import code_of

_USUAL_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".webm", ".mp4")
# Taken for captions that no recording of the usual kind has: a film often lies beside the sound that was made of it.
_OTHER_AUDIO_SUFFIXES = (
    *(".aiff", ".aif", ".oga", ".mka", ".mkv", ".m4b", ".mov", ".wma", ".caf", ".avi", ".aac", ".amr"),
)
_NOT_READ = (
    ".ac3",
    ".eac3",
    ".ape",
    ".dts",
    ".m4p",
    ".mpc",
    ".ra",
    ".rm",
    ".shn",
    ".spx",
    ".tak",
    ".tta",
    ".voc",
    ".wv",
)
AUDIO_SUFFIXES = _USUAL_SUFFIXES + _OTHER_AUDIO_SUFFIXES
CAPTION_SUFFIXES = (".vtt", ".srt", ".ass", ".ssa", ".ttml", ".dfxp")  # the first that is there is read
_LANGUAGE_SUFFIX = re.compile(r"(.+)\.([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]{2,8})*")  # talk.sv, talk.zh-Hans
_OTHER_SUFFIXES = f"{', '.join(CAPTION_SUFFIXES[1:-1])} or {CAPTION_SUFFIXES[-1]}"
_STATED_LANGUAGE = re.compile(r"(?!und|mul|mis|zxx)([a-z]{2,3})(?:[-_].*)?", re.IGNORECASE | re.DOTALL)
_HALVES = ("recording without captions", "captions without a recording")
_Group = dict[str, dict[Path, str | None]]  # by stem in NFC, the captions, each with the language in its name
_NO_TIME = ("empty cue", "no length", "past the end")


@dataclass(frozen=True, slots=True)
class _Pair:
    """A recording and its captions, with the language in their name."""

    recording: Path
    captions: Path
    language: str | None


@dataclass(frozen=True, slots=True)
class _Judged:
    """A cue, used or not: where it says it is spoken, and what it came to."""

    spoken: Spoken
    problem: Problem | None = None


def read_captioned(spec: SourceSpec, audio: AudioReader) -> SourceData:
    """The cues of all recordings, recording by recording in the order of their paths."""
    segments: list[Segment] = []
    problems: list[Problem] = []
    otherwise: list[_Pair] = []
    seconds = 0.0
    for found in _find_pairs(spec.path, spec.language):
        rows_left = math.inf if spec.limit_rows is None else spec.limit_rows - len(segments)
        seconds_left = math.inf if spec.limit_hours is None else 3600 * spec.limit_hours - seconds
        if rows_left <= 0 or seconds_left <= 0:
            break
        if isinstance(found, Problem):
            problems.append(found)
            continue
        otherwise += [found] if _names_another(found, spec.language) else []
        all_cues = _read_pair(found, spec, audio)
        judged = _up_to(all_cues, rows_left, seconds_left)
        segments += linked([one.spoken for one in judged])
        seconds = sum(segment.duration_s for segment in segments)
        problems += [one.problem for one in judged if one.problem]
        if len(judged) < len(all_cues):
            break
    return SourceData(tuple(segments), tuple(problems), tuple(_told_of(otherwise, spec.language)))


def _names_another(pair: _Pair, language: str | None) -> bool:
    """Whether captions name a language that Whisper knows, and are taken as another."""
    named = code_of(pair.language) if pair.language else None
    return named is not None and language is not None and named != _code(language)


def _told_of(pairs: Sequence[_Pair], language: str | None) -> Iterator[str]:
    if pairs:
        name, files = pairs[0].captions.name, "captions file" if len(pairs) == 1 else "captions files"
        yield (
            f"{len(pairs):,} {files} named for another language, such as {name}, are taken as {language}: if they are "
            "subtitles in that language, leave them out"
        )


def _find_pairs(location: Path, language: str | None = None, *, below: bool = True) -> list[_Pair | Problem]:
    """Recordings with their captions, and a Problem for each file that lacks its other half, by path.

    Without `below`, those of the folder alone. Of captions in several languages beside one recording, `language`
    says which are meant.
    """
    if location.is_file():
        beside = [path for path in sorted(location.parent.iterdir()) if _is(path, CAPTION_SUFFIXES)]
        found = _pairs_of_folder([location, *beside], language)
        return [one for one in found if isinstance(one, _Pair) or one.where == _printable(location)]
    pairs: list[_Pair | Problem] = []
    for folder, names in islice(files_below(location), None if below else 1):
        pairs += _pairs_of_folder([folder / name for name in names], language)
    return pairs


def has_pair(location: Path, *, below: bool = True) -> bool:
    """Whether a recording here has captions, of whatever language, or there is something to say of one."""
    found = _find_pairs(location, below=below)
    return any(isinstance(one, _Pair) or one.kind not in _HALVES for one in found)


def _is(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.suffix.lower() in suffixes and not path.name.startswith(".")  # ._talk.mp3 comes from macOS


def _pairs_of_folder(files: list[Path], language: str | None) -> list[_Pair | Problem]:
    unfit = {path: problem for path in files if (problem := _unfit(path))}
    captions = sorted(path for path in files if _is(path, CAPTION_SUFFIXES) and path not in unfit)
    found: list[_Pair | Problem] = [*unfit.values()]
    taken: set[Path] = set()
    for kinds, missed in ((_USUAL_SUFFIXES, True), (_OTHER_AUDIO_SUFFIXES, False)):
        recordings = [path for path in files if _is(path, kinds) and path not in unfit]
        groups = _groups(
            [path for path in captions if path not in taken], {_composed(each.stem) for each in recordings}
        )
        for recording in recordings:
            candidates = _candidates(recording.stem, groups, taken)
            if candidates or missed:
                found.append(_pair(recording, candidates, language))
            taken |= set(candidates)
    others = _others(files)
    found += [_lone(path, others) for path in captions if path not in taken]
    return found


def _others(files: Sequence[Path]) -> dict[str, Path]:
    """Files that may be recordings, but of no kind that is looked for, by stem in NFC."""
    known = AUDIO_SUFFIXES + CAPTION_SUFFIXES
    others = (path for path in files if not _is(path, known) and not path.name.startswith("."))
    return {_composed(path.stem): path for path in others if _may_be_audio(path)}


def _may_be_audio(path: Path) -> bool:
    kind, _ = guess_type(path.name)
    return _is(path, _NOT_READ) if kind is None else kind.startswith(("audio/", "video/"))


def _lone(captions: Path, others: dict[str, Path]) -> Problem:
    detail = f"no recording {captions.stem} lies beside"
    stem = _composed(captions.stem)
    match = _LANGUAGE_SUFFIX.fullmatch(stem)
    other = others.get(stem) or (others.get(match[1]) if match else None)
    if other:
        detail += f" of a kind that is looked for; if {_printable(Path(other.name))} is it, convert it, e.g. to .flac"
    return Problem(str(captions), _HALVES[1], detail)


def _unfit(path: Path) -> Problem | None:
    """Why this recording or these captions cannot be taken at all."""
    if not _is(path, AUDIO_SUFFIXES + CAPTION_SUFFIXES):
        return None
    if _printable(path) != str(path):
        return Problem(_printable(path), "file name is not UTF-8", "rename the file, or the folder it lies in")
    if not os.path.isfile(path):
        return Problem(str(path), "not a file", "a folder, a pipe, a device, or a link that leads nowhere")
    return None


def _printable(path: Path) -> str:
    """The path, with bytes that are not UTF-8 written as \\xe5."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _groups(captions: Sequence[Path], stems: set[str]) -> tuple[_Group, _Group]:
    """Captions by the recording they are named after: just like it, and with a language behind."""
    plain: _Group = {}
    named: _Group = {}
    for path in captions:
        stem = _composed(path.stem)
        plain.setdefault(stem, {})[path] = None
        match = _LANGUAGE_SUFFIX.fullmatch(stem)
        if match and stem not in stems:
            named.setdefault(match[1], {})[path] = _code(match[2])
    return plain, named


def _candidates(stem: str, groups: tuple[_Group, _Group], taken: set[Path]) -> dict[Path, str | None]:
    """Captions of this recording with the language in their name: the plain ones, else those with a language."""
    for group in groups:
        left = {path: own for path, own in group.get(_composed(stem), {}).items() if path not in taken}
        same = {path: own for path, own in left.items() if path.name.startswith(f"{stem}.")}  # unless it looks so only
        if left:
            return same or left
    return {}


def _code(language: str) -> str:
    """Whisper's code; what has none stays."""
    return code_of(language) or language.strip().lower()


def _pair(recording: Path, candidates: dict[Path, str | None], language: str | None) -> _Pair | Problem:
    if not candidates:
        detail = f"no {recording.stem}.vtt, {_OTHER_SUFFIXES} lies beside it, or another recording has it"
        return Problem(str(recording), _HALVES[0], detail)
    languages = set(candidates.values())
    wanted = _code(language) if language else None
    meant = {path: own for path, own in candidates.items() if len(languages) == 1 or own == wanted}
    if not meant:
        names = ", ".join(path.name for path in candidates)
        return Problem(str(recording), "several captions", f"{names}: give the language, or leave one")
    captions = min(meant, key=lambda path: CAPTION_SUFFIXES.index(path.suffix.lower()))
    own = meant[captions]
    if own and not language and code_of(own) is None:
        detail = f"{captions.name}: {own!r} is no language that Whisper has; give the language, or rename the file"
        return Problem(str(recording), "unknown language", detail)
    return _Pair(recording, captions, own)


def _read_pair(pair: _Pair, spec: SourceSpec, audio: AudioReader) -> list[_Judged]:
    try:
        captions = read_captions(pair.captions)
    except DataError as error:
        problem = Problem(error.where or str(pair.captions), "captions that cannot be read", error.what)
        return [_dropped(problem)]
    if not captions.cues and not captions.problems:
        return [_dropped(Problem(str(pair.captions), "captions without cues", "the file holds no cue"))]
    try:
        duration_s = audio.probe(pair.recording).duration_s
    except AudioError as error:
        trouble = ("recording does not decode", f"{pair.recording.name} {error.what}")
        lost = (Problem(f"{pair.captions}:{cue.line}", *trouble) for cue in captions.cues)
        return [_dropped(problem) for problem in (*lost, *captions.problems)]
    stated = _STATED_LANGUAGE.fullmatch(captions.language or "")
    own = spec.language or pair.language or (stated[1].lower() if stated else None)
    language = language_of(own, spec, str(pair.captions))
    root = spec.path.parent if spec.path.is_file() else spec.path
    ids = _ids(pair.captions.relative_to(root).as_posix(), captions.cues)

    def segment(index: int, end_s: float) -> Segment:
        cue = captions.cues[index]
        return Segment(
            id=ids[index],
            recording=pair.recording,
            start_s=cue.start_s,
            end_s=end_s,
            text=cue.text,
            language=language,
            task=spec.task,
            speaker=cue.speaker,
        )

    return _judged(captions, pair.captions, duration_s, segment, whole=spec.whole)


def _ids(name: str, cues: Sequence[Cue]) -> list[str]:
    """Each cue by its line; those behind the first of a line, as in XML without line breaks, are counted too."""
    ids: list[str] = []
    on_line: Counter[int] = Counter()
    for cue in cues:
        on_line[cue.line] += 1
        ids.append(f"{name}:{cue.line}" + (f".{on_line[cue.line]}" if on_line[cue.line] > 1 else ""))
    return ids


def _judged(
    captions: Captions, path: Path, duration_s: float, segment: Callable[[int, float], Segment], *, whole: bool
) -> list[_Judged]:
    """Every cue in its order, and every problem behind the cue that stands before it in the file."""
    places = sorted((cue.line, index) for index, cue in enumerate(captions.cues))
    judged: list[tuple[float, _Judged]] = []
    for problem in captions.problems:
        earlier = bisect_left(places, (int(problem.where.rpartition(":")[2]), -1))
        judged.append((places[earlier - 1][1] + 0.5 if earlier else -1, _dropped(problem)))
    used: Spoken | None = None  # the last cue that is used
    before: Cue | None = None  # the last cue with text and a credible time, used or not
    for index, cue in enumerate(captions.cues):
        trouble = _untold(cue, duration_s) if whole else _trouble(cue, before, used, duration_s)
        if trouble:
            judged.append((index, _Judged(_unused(cue, trouble), Problem(f"{path}:{cue.line}", *trouble))))
        else:
            end_s = max(cue.start_s, min(cue.end_s, duration_s))
            used = Spoken(cue.start_s, end_s, segment(index, end_s))
            judged.append((index, _Judged(used)))
        if trouble is None or trouble[0] not in _NO_TIME:
            before = cue
    judged.sort(key=lambda one: one[0])
    return [one for _, one in judged]


def _trouble(cue: Cue, before: Cue | None, used: Spoken | None, duration_s: float) -> Trouble | None:
    if not cue.text:
        return "empty cue", "the cue has no text"
    if trouble := time_trouble(cue.start_s, cue.end_s, duration_s):
        return trouble
    if cue.start_s < max(before.start_s if before else 0.0, used.start_s if used else 0.0):
        return "out of order", f"starts at {cue.start_s:.2f} s, before the cue before it"
    spoken_until_s = max(before.end_s if before else 0.0, used.end_s if used else 0.0)
    overlap_s = spoken_until_s - cue.start_s
    swallowed = used is not None and min(cue.end_s, duration_s) <= used.end_s
    if overlap_s > OVERLAP_TOLERANCE_S + ROUNDING_S or swallowed:
        return "overlapping cue", f"starts {overlap_s:.2f} s before the cue before it ends"
    return None


def _untold(cue: Cue, duration_s: float) -> Trouble | None:
    """Why a cue is no part of what is said in a recording, however it is timed; None where it is."""
    if not cue.text:
        return "empty cue", "the cue has no text"
    if cue.start_s >= duration_s:
        return "past the end", f"starts at {cue.start_s:.2f} s in a recording of {duration_s:.2f} s"
    return None


def _unused(cue: Cue, trouble: Trouble) -> Spoken:
    if not cue.text:
        return Spoken(0.0, 0.0)  # nobody is heard
    return Spoken(cue.start_s, max(cue.start_s, cue.end_s), placed=trouble[0] != "past the end")


def _dropped(problem: Problem) -> _Judged:
    return _Judged(Spoken(0.0, 0.0, placed=False), problem)


def _up_to(judged: list[_Judged], rows: float, seconds: float) -> list[_Judged]:
    """The cues up to the last used one that still fits."""
    used, spent_s, last = 0, 0.0, 0
    for index, one in enumerate(judged):
        if one.spoken.segment is None:
            continue
        used, spent_s = used + 1, spent_s + one.spoken.segment.duration_s
        if used > rows or spent_s > seconds + ROUNDING_S:
            return judged[:last]
        last = index + 1
    return judged
