"""Normalizers: what is taken out of two texts before they are compared. One registry, each with name and version.

    normalizer = normalizer_for("hi")
    normalizer("नमस्ते, दुनिया!")  # "नमस्ते दुनिया"
    normalizer.label  # "whispertune-indic 1", printed beside every normalised score
    normalizer_named("arabic+alef").label  # "whispertune-arabic+alef 1"

    basic       case and punctuation go; every letter, mark and number stays
    english     transformers' normalizer for English: numbers in figures, contractions in full, American spelling
    indic       basic, with one spelling for a nukta and for letters once written with joiners; danda is punctuation
    arabic      basic without tatweel and vowel signs; letters of every language in the script stay
    characters  basic for scripts without spaces: one width, no spaces, counted by character

A score only means something together with its normalizer, so the version goes up with every change that can
change a score. Only English loses combining marks and rewrites numbers; `+digits` writes the digits of every
script as 0 to 9 for the others. Of the Arabic script, `+alef` writes آ أ إ ٱ as ا, `+hamza` ؤ ئ as و ي, and
`+keep_vowels` and `+keep_tatweel` leave these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from whispertune.errors import InputError
from whispertune.languages import UNSPACED_LANGUAGES, code_of
from whispertune.score.normalizers.basic import basic, raw_text, unify_apostrophes
from whispertune.score.normalizers.english import english
from whispertune.score.normalizers.scripts import arabic, ascii_digits, by_character, characters, indic

__all__ = [
    "NORMALIZERS",
    "Normalizer",
    "basic",
    "label_of",
    "leads_with_cer",
    "normalizer_for",
    "normalizer_named",
    "one_each",
    "raw_text",
    "unify_apostrophes",
]

_DIGITS: Final = "digits"


@dataclass(frozen=True, slots=True)
class Normalizer:
    """A named, versioned function from text to the text that is compared."""

    name: str
    version: str
    function: Callable[..., str]
    options: tuple[str, ...] = (_DIGITS,)  # all but digits go to the function
    chosen: tuple[str, ...] = ()  # of the options, in their order
    words_are_characters: bool = False  # in scripts without spaces

    def __call__(self, text: str) -> str:
        chosen = dict.fromkeys(self.chosen, True)
        if chosen.pop(_DIGITS, False):
            text = ascii_digits(text)
        return self.function(text, **chosen)

    def parted(self, normalized: str) -> str:
        """A normalised text with spaces between what counts as words. The error rate of its words is a character
        error rate where scripts have no spaces. Characters are counted in the text as it was."""
        return by_character(normalized) if self.words_are_characters else normalized

    @property
    def label(self) -> str:
        return f"{'+'.join((self.name, *self.chosen))} {self.version}"

    def choosing(self, options: Iterable[str]) -> Normalizer:
        """The same with these options, named in its label."""
        wanted = set(options)
        if unknown := sorted(wanted - set(self.options)):
            fix = f"choose among {', '.join(self.options)}" if self.options else "it has no options"
            raise InputError(f"the normaliser {self.name} has no option {', '.join(unknown)}", fix=fix)
        return replace(self, chosen=tuple(option for option in self.options if option in wanted)) if wanted else self


NORMALIZERS: Final = {
    "basic": Normalizer("whispertune-basic", "1", basic),
    "english": Normalizer("whisper-english", "1", english, options=()),
    "indic": Normalizer("whispertune-indic", "1", indic),
    "arabic": Normalizer(
        "whispertune-arabic", "1", arabic, options=("keep_vowels", "keep_tatweel", "alef", "hamza", _DIGITS)
    ),
    "characters": Normalizer("whispertune-characters", "1", characters, words_are_characters=True),
}

# Language -> key of NORMALIZERS, for the languages that need their own: Whisper's codes, and others of India.
_BY_LANGUAGE: Final = {
    "en": "english",
    **dict.fromkeys(("hi", "mr", "ne", "sa", "bn", "as", "pa", "gu", "ta", "te", "kn", "ml", "si"), "indic"),
    **dict.fromkeys(("or", "ory", "mai", "bho", "kok", "doi", "awa"), "indic"),
    **dict.fromkeys(("ar", "fa", "ur", "ps", "sd"), "arabic"),
    **dict.fromkeys(UNSPACED_LANGUAGES, "characters"),
}


def normalizer_for(language: str, options: Iterable[str] = ()) -> Normalizer:
    """The normalizer of a language (code, tag or English name), basic where none is its own."""
    return NORMALIZERS[_BY_LANGUAGE.get(code_of(language) or language, "basic")].choosing(options)


def normalizer_named(name: str) -> Normalizer:
    """The normalizer of this key or full name, options after plus signs: "basic", "arabic+alef+digits"."""
    key, *options = name.strip().lower().split("+")
    found = [one for known, one in NORMALIZERS.items() if key in (known, one.name)]
    if not found:
        known = f"one of {', '.join(NORMALIZERS)}; options after plus signs, as in arabic+alef+digits"
        raise InputError(f"no normaliser is called {key!r}", fix=known)
    return found[0].choosing(options)


def one_each(normalizer: Normalizer | Sequence[Normalizer], texts: int) -> Sequence[Normalizer]:
    """A normalizer for each of so many texts: one for all, or those that were given."""
    return [normalizer] * texts if isinstance(normalizer, Normalizer) else normalizer


def label_of(normalizers: Iterable[Normalizer]) -> str:
    """The labels of all that were used, each once, by the alphabet."""
    return ", ".join(sorted({each.label for each in normalizers}))


def leads_with_cer(language: str) -> bool:
    """Whether the character error rate is the figure to read: words are not separated by spaces."""
    return (code_of(language) or language) in UNSPACED_LANGUAGES
