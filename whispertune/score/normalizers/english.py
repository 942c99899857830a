"""English: transformers' own normalizer, with rules of ours for American spelling.

    english("She hasn't organised it: colour number twenty-one!")  # "she has not organized it color number 21"
    american("travelling")  # "traveling"

The normalizer that came with Whisper writes numbers in figures and contractions in full, and leaves out
hesitations (um, mhm), words in brackets, punctuation and marks. That part is transformers'. Its list of British
spellings comes with some model folders and not with others, and a score must not hang on the folder that is
scored, so spelling is by the rules here. Both texts go through the same rules: one that reaches a word it was
not made for does no harm unless it makes two words one.

It is for English alone: marks go, so other scripts come out damaged. It is not idempotent, for figures that
stand beside words ("twenty 1" becomes "20 one", and that, read again, 21).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Final

# Longer runs of figures stop transformers' normalizer: Python reads no number of more than 4,300 of them.
_LONG_NUMBER: Final = re.compile(r"(\d{1000})(?=\d)")


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split(">") for pair in text.split())


def _any_of(words: str) -> str:
    """The group of a regular expression that any of the words matches."""
    return f"(?:{'|'.join(words.split())})"


# Parts of words, replaced wherever they stand.
_PARTS: Final = _pairs("""
    accoutre>accouter aemi>emi aeon>eon aeroplane>airplane aesth>esth aetiol>etiol aluminium>aluminum archaeo>archeo
    artefact>artifact baulk>balk behov>behoov caesarea>cesarea calliper>caliper cheque>check chequer>checker
    chilli>chili chimaera>chimera coeliac>celiac connexion>connection cypher>cipher defence>defense dgement>dgment
    draught>draft faec>fec fillet>filet foetal>fetal foetid>fetid foetus>fetus gaol>jail gryphon>griffin gynaec>gynec
    haem>hem homoeo>homeo inflexion>inflection jewellery>jewelry licenc>licens manoeuv>maneuv mediaev>mediev
    mould>mold moult>molt moustach>mustach oedema>edema oesoph>esoph oestr>estr offence>offense paed>ped palaeo>paleo
    pharmacopoeia>pharmacopeia plough>plow practis>practic praesidium>presidium pretence>pretense primaev>primev
    pyjama>pajama rrhoea>rrhea sceptic>skeptic skilful>skillful smoulder>smolder sulph>sulf syphon>siphon
    tranquilli>tranquili waggon>wagon wilful>willful woolle>woole woollies>woolies woolly>wooly yoghourt>yogurt
    yoghurt>yogurt
""")
_PART: Final = re.compile("|".join(sorted(_PARTS, key=len, reverse=True)))
# Whole words, and with an s.
_WORDS: Final = _pairs("""
    almanack>almanac disc>disk epaulette>epaulet gipsies>gypsies gipsy>gypsy groyne>groin omelette>omelet
    philtre>filter phoney>phony pouffe>pouf sheikh>sheik storey>story storeys>stories tonne>ton tyre>tire
""")

_OUR: Final = _any_of("""
    arb ard arm behavi cand clam clang col demean enam endeav fav ferv flav glam harb hon hum lab misdemean neighb od
    parl ranc rig rum savi sav splend succ tum val vap vig
""")
_RE: Final = _any_of("""
    calib cent fib goit lit louv lust maneuv meag met mit och pet reconnoit sab scept sepulch somb spect theat tit
""")
# Ends of verbs in a single l, which Britain doubles before an ending.
_L: Final = _any_of("""
    cancel carol cavil chisel cudgel devil dial enamel equal evel gambol initial ivel jewel label libel marshal marvel
    medal metal mmel model ncil nnel nsel ovel owel panel parcel parel pedal peril ravel rival rrel signal snorkel
    spiral tassel total trial uel victual weasel yodel
""")
_L_AT_END: Final = _any_of("appal distil enrol enthral fulfil instal instil")
# Words in which -ise is no ending, as they begin.
_ISE_STAYS: Final = _any_of("""
    adv advert an ar cer chast chem circumc compr comprom conc cr dem desp dev edgew enterpr exc exerc expert franch
    inc improv ir lengthw likew clockw merchand mort otherw parad pelv pen pr prec prem prom r rev sunr superv surm
    surpr telev treat trell val w
""")
_PREFIX: Final = _any_of("anti counter dis en im mis non over re self un up")
_VERB_END: Final = _any_of("e es ed ing ings er ers able ably ability ation ations ational ement ingly edly")

# In turn, each on what the one before it left; a pattern matches a whole word.
_RULES: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"(\w*{_OUR})our(\w*)", r"\1or\2"),  # colour, favourite
        (rf"(\w*{_RE})re(s?|fold|folds|piece|pieces|glass|goer|goers)", r"\1er\2"),  # metres
        (rf"(\w*{_RE})re(d)", r"\1ere\2"),  # centred
        (rf"(\w*{_RE})r(ing|ings|able|ability)", r"\1er\2"),  # manoeuvring
        (rf"(\w*{_L})l((?:ed|ing|er|or|ist|able|ous|est)(?:s|ly)?)", r"\1\2"),  # travelling, marvellously
        (rf"({_L_AT_END})(s|ment|ments)?", r"\1l\2"),  # fulfil, enrolment
        (r"(\w*worship)p(ed|ing|er|ers)", r"\1\2"),
        (r"(bias|focus|\w*bus)s(ed|es|ing)", r"\1\2"),
        (r"(\w*)gramme(s?)", r"\1gram\2"),
        (r"((?:anal|catal|dial|epil|monol|prol|travel)og)ue(s?)", r"\1\2"),
        (r"(catalog)u(ed|er|ers|ing)", r"\1\2"),
        (r"((?:un)?(?:lik|liv|lov|mov|rat|sal|siz|us))eable", r"\1able"),
        (r"(ag|bing|glu)eing", r"\1ing"),
        (r"grey(|s|ed|ing|er|est|ish|ness)", r"gray\1"),
        (r"cos(y|ier|ies|iest|ily|iness)", r"coz\1"),
        (rf"(\w+ly)s({_VERB_END})", r"\1z\2"),  # analysed
        (rf"(?!{_PREFIX}*{_ISE_STAYS}is)(\w+[b-df-hj-np-tv-z]i)s({_VERB_END})", r"\1z\2"),  # organisation
    )
)


def english(text: str) -> str:
    """Transformers' normalizer for English, then American spelling; whitespace collapsed."""
    normalized = _transformers_normalizer()(_LONG_NUMBER.sub(r"\1 ", text))
    return " ".join(american(word) for word in normalized.split())


@lru_cache(maxsize=1 << 16)
def american(word: str) -> str:
    """The American spelling of a word in lower case."""
    singular = word.removesuffix("s")
    if word in _WORDS or singular in _WORDS:
        return _WORDS.get(word) or _WORDS[singular] + "s"
    word = _PART.sub(lambda part: _PARTS[part[0]], word)
    for pattern, replacement in _RULES:
        if found := pattern.fullmatch(word):
            word = found.expand(replacement)
    return word


@cache
def _transformers_normalizer() -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    normalizer: Callable[[str], str] = EnglishTextNormalizer({})
    return normalizer
