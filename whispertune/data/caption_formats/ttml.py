"""TTML (also as DFXP, IMSC, EBU-TT-D, iTT): each timed paragraph, or timed span of an untimed one, is a cue.

    <tt xmlns="http://www.w3.org/ns/ttml" xml:lang="sv">
      <body><div><p begin="12.4s" end="00:00:15.000">Ja,<br/>det gör vi.</p></div></body>
    </tt>

    captions = read_ttml(text, Path("talk.ttml"))  # Cue(12.4, 15.0, "Ja, det gör vi."), language="sv"

The order of paragraphs means nothing in TTML, so cues come by time. The speaker is the ttm:agent of a cue's
text, by its name in the head. Ruby (how to read what stands below it) is no text. What is not in the
language of the first cue is a Problem, as is text that nothing gives an end. A DOCTYPE is refused, and with
it all entities; encodings are those of `read_text`, whatever the file says of itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from xml.parsers import expat

from whispertune.data.caption_formats.cues import Captions, Cue, clean_text, in_order
from whispertune.data.caption_formats.ttml_time import Clock
from whispertune.data.segments import Problem
from whispertune.errors import DataError
from whispertune.languages import code_of

# The names of TTML and of its drafts, under which old files are still around.
_NAMESPACE = re.compile(r"http://www\.w3\.org/(?:ns/ttml|[0-9]{4}/[0-9]{2}/ttaf1)(?:#([a-z]+))?")
_PREFIXES = {None: "", "parameter": "ttp:", "metadata": "ttm:", "styling": "tts:", "style": "tts:"}
_XML = "http://www.w3.org/XML/1998/namespace"
_TIMED = ("div", "p", "span")  # in the body, which is timed too
_RUBY = ("text", "textContainer", "delimiter")


@dataclass(slots=True)
class _Draft:
    """The text of a cue as it comes."""

    texts: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Scope:
    """An element that is open: when it is shown, and what holds for the text in it."""

    name: str
    line: int
    begin: Fraction = Fraction(0)
    end: Fraction | None = None
    trouble: str | None = None  # why nobody knows when it is shown
    has_end: bool = False  # of its own: all text in it is one cue
    sequence: bool = False  # whether its children follow each other in time
    at: Fraction | None = Fraction(0)  # what the times of its children count from
    language: str | None = None
    agent: str = ""
    draft: _Draft | None = None

    def add(self, text: str) -> bool:
        """Whether there is a cue to add it to."""
        if self.draft is None:
            return False
        self.draft.texts.append(text)
        if text.strip():
            self.draft.agents |= set(self.agent.split())
        return True


def read_ttml(text: str, path: Path) -> Captions:
    reader = _Reader(path)
    try:
        reader.parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        what = f"is no well-formed XML: {expat.ErrorString(error.code)}"
        raise DataError(what, where=f"{path}:{error.lineno}") from None
    return reader.captions()


class _Reader:
    """Takes what the XML parser finds and makes cues of it."""

    def __init__(self, path: Path) -> None:
        self.parser = expat.ParserCreate("utf-8", " ")
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self._path = path
        self._clock = Clock()
        self._open: list[_Scope] = []
        self._skipped = 0  # open elements whose content is no text
        self._cues: list[tuple[Cue, str]] = []  # with the one agent of its text
        self._problems: list[tuple[int, str, str]] = []
        self._language: str | None = None
        self._names: dict[str, str] = {}  # of agents
        self._ruby_styles: set[str] = set()

    def captions(self) -> Captions:
        cues = [
            replace(cue, speaker=clean_text(self._names.get(agent, "")) or clean_text(agent) or None)
            for cue, agent in self._cues
        ]
        problems = (Problem(f"{self._path}:{line}", kind, detail) for line, kind, detail in sorted(self._problems))
        return Captions(in_order(cues), tuple(problems), self._language)

    # ------------------------------------------------------------------------------------------ what comes

    def _doctype(self, *_: object) -> None:
        raise self._error("has a DOCTYPE, which captions have no use for", "remove it, and the entities it declares")

    def _start(self, qualified: str, raw: dict[str, str]) -> None:
        name, attributes = _name(qualified), {_name(key): value for key, value in raw.items()}
        if self._skipped:
            self._skipped += 1
        elif not self._open:
            self._root(name, attributes)
        elif self._in("head"):
            self._head(name, attributes)
        elif name in (("head", "body") if len(self._open) == 1 else _TIMED) and not self._is_ruby(attributes):
            self._open.append(self._scope(name, attributes))
        else:
            self._skipped = 1
            if name == "br":
                self._open[-1].add("\n")

    def _end(self, _: str) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        scope = self._open.pop()
        parent = self._open[-1] if self._open else None
        if parent and parent.sequence:
            parent.at = scope.end if scope.has_end and not scope.trouble else None
        if scope.draft and (parent is None or scope.draft is not parent.draft):
            self._finish(scope, scope.draft)

    def _characters(self, text: str) -> None:
        if self._skipped or not self._open:
            return
        scope = self._open[-1]
        if self._in("head"):
            if scope.name == "ttm:name":
                self._names[scope.agent] = self._names.get(scope.agent, "") + text
        elif not scope.add(text) and text.strip():
            self._problems.append((self._line, "text without a time", f"outside of a <p>: {clean_text(text)[:80]}"))

    # ------------------------------------------------------------------------------------- what it comes to

    def _root(self, name: str, attributes: dict[str, str]) -> None:
        if name != "tt":
            raise self._error(
                f"is no TTML: its root is <{name.removeprefix('?:')}>, not <tt>", "convert or rename the file"
            )
        try:
            self._clock = Clock.of(attributes)
        except ValueError as error:
            raise self._error(str(error), "correct this attribute of <tt>") from None
        self._open.append(_Scope(name, self._line, language=attributes.get("xml:lang") or None))

    def _head(self, name: str, attributes: dict[str, str]) -> None:
        agent = attributes.get("xml:id", "") if name == "ttm:agent" else self._open[-1].agent
        if name == "style" and attributes.get("tts:ruby") in _RUBY:
            self._ruby_styles.add(attributes.get("xml:id", ""))
        if name == "ttm:name" and attributes.get("type") == "full":
            self._names.pop(agent, None)  # it says more than an alias or a given name
        if name == "ttm:name" and agent in self._names:
            self._skipped = 1
        else:
            self._open.append(_Scope(name, self._line, agent=agent))

    def _scope(self, name: str, attributes: dict[str, str]) -> _Scope:
        parent = self._open[-1]
        scope = _Scope(name, self._line, parent.begin, parent.end, parent.trouble)
        scope.language = attributes.get("xml:lang", parent.language) or None
        scope.agent = attributes.get("ttm:agent", parent.agent)
        scope.draft = parent.draft
        if parent.draft and parent.has_end:
            scope.has_end = True  # the parent's time is that of all in it
        else:
            self._set_times(scope, parent, attributes)
            if name in ("p", "span") and (scope.has_end or not parent.draft):
                scope.draft = _Draft()
        scope.sequence, scope.at = attributes.get("timeContainer") == "seq", scope.begin
        return scope

    def _set_times(self, scope: _Scope, parent: _Scope, attributes: Mapping[str, str]) -> None:
        scope.has_end = "end" in attributes or "dur" in attributes
        if parent.at is None:
            scope.trouble = scope.trouble or "follows, in a sequence, what has no end"
            return
        times: dict[str, Fraction] = {}
        for key in ("begin", "end", "dur"):
            try:
                times[key] = self._clock.seconds(attributes.get(key, "0s"))
            except ValueError as error:
                place = "" if scope.name == "p" else f"<{scope.name}> at line {scope.line}: "
                scope.trouble = f'{place}{key}="{clean_text(attributes[key])[:40]}" {error}'
                return
        scope.begin = parent.at + times["begin"]
        ends = [parent.end] if parent.end is not None else []
        ends += [parent.at + times["end"]] if "end" in attributes else []
        ends += [scope.begin + times["dur"]] if "dur" in attributes else []
        scope.end = min(ends, default=None)

    def _finish(self, scope: _Scope, draft: _Draft) -> None:
        text = clean_text("".join(draft.texts))
        if not text and not scope.has_end:
            return  # its spans had it all
        self._language = self._language or scope.language
        if text and scope.language and _primary(scope.language) != _primary(self._language):
            detail = f"{scope.language} in a file of {self._language}: {text[:80]}"
            self._problems.append((scope.line, "cue in another language", detail))
        elif scope.trouble:
            self._problems.append((scope.line, "malformed time", scope.trouble))
        elif scope.end is None:
            self._problems.append((scope.line, "text without a time", f"nothing says when it ends: {text[:80]}"))
        else:
            agent = next(iter(draft.agents)) if len(draft.agents) == 1 else ""
            self._cues.append((Cue(float(scope.begin), float(scope.end), text, scope.line), agent))

    def _is_ruby(self, attributes: Mapping[str, str]) -> bool:
        by_style = not self._ruby_styles.isdisjoint(attributes.get("style", "").split())
        return attributes.get("tts:ruby") in _RUBY or ("tts:ruby" not in attributes and by_style)

    def _in(self, name: str) -> bool:
        return len(self._open) > 1 and self._open[1].name == name

    @property
    def _line(self) -> int:
        return self.parser.CurrentLineNumber

    def _error(self, what: str, fix: str) -> DataError:
        return DataError(what, where=f"{self._path}:{self._line}", fix=fix)


def _name(qualified: str) -> str:
    """An element or attribute with the usual prefix of its namespace, of whatever prefix it is here."""
    namespace, _, local = qualified.rpartition(" ")
    if not namespace:
        return local
    if namespace == _XML:
        return f"xml:{local}"
    known = _NAMESPACE.fullmatch(namespace)
    return f"{_PREFIXES.get(known[1], '?:') if known else '?:'}{local}"


def _primary(language: str | None) -> str:
    primary = (language or "").replace("_", "-").partition("-")[0].lower()
    return code_of(primary) or primary
