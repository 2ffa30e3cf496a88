"""References and hypotheses → error rates, BLEU, chrF, form and language. Pure functions.

Text is compared in the form of `cslm_data.text.normalise` for error rates and exact match, and as
it is written for BLEU and chrF.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from cslm_data.framing import ANSWER, OWN, QUESTION, SPEECH_END, SPEECH_START, Mark, Piece
from cslm_data.records import Units
from cslm_data.text import UNSPACED, normalise

# --- error rates -----------------------------------------------------------------------------


def error_measure(language: str) -> str:
    """`cer` for languages written without spaces, else `wer`."""
    return "cer" if language in UNSPACED else "wer"


def text_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], language: str
) -> float | None:
    """Word error rate, or that of characters in languages written without spaces.

    Errors of all sentences over words of all references; None when those have none.
    """
    import jiwer

    expected = [normalise(text, language) for text in references]
    found = [normalise(text, language) for text in hypotheses]
    if not any(expected):
        return None
    if error_measure(language) == "cer":
        return float(jiwer.process_characters(expected, found).cer)
    return float(jiwer.process_words(expected, found).wer)


def exact_match(references: Sequence[str], hypotheses: Sequence[str], language: str) -> float:
    """Share of sentences that are the same but for case, width and punctuation."""
    same = [
        normalise(expected, language) == normalise(found, language)
        for expected, found in zip(references, hypotheses, strict=True)
    ]
    return sum(same) / len(same)


def unit_error_rate(references: Sequence[Units], hypotheses: Sequence[Units]) -> float | None:
    """Edits that turn all hypotheses into their references, over units of all references."""
    from rapidfuzz.distance import Levenshtein

    total = sum(len(units) for units in references)
    if not total:
        return None
    edits = sum(
        Levenshtein.distance(expected.tolist(), found.tolist())
        for expected, found in zip(references, hypotheses, strict=True)
    )
    return edits / total


# --- translation -----------------------------------------------------------------------------


def bleu(references: Sequence[str], hypotheses: Sequence[str], language: str) -> float:
    """Corpus BLEU in percent; by characters in languages written without spaces."""
    from sacrebleu.metrics.bleu import BLEU

    tokenize = "13a"
    if language in UNSPACED:
        tokenize = "zh" if language in ("zh", "yue") else "char"
    metric = BLEU(tokenize=tokenize)
    return float(metric.corpus_score(list(hypotheses), [list(references)]).score)


def chrf(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Corpus chrF2 in percent."""
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF().corpus_score(list(hypotheses), [list(references)]).score)


# --- the chain of modality -------------------------------------------------------------------

_CHAIN = re.compile(r"(QtA)?(tSuE)+\.")
_LETTERS = {QUESTION: "Q", ANSWER: "A", SPEECH_START: "S", SPEECH_END: "E"}


def is_well_formed_chain(pieces: Sequence[Piece], *, end: Mark = OWN.end) -> bool:
    """Whether an answer is a closed question, then text and speech by turns, none empty, and ends.

    ( `<|question|>` text `<|answer|>` )? ( text `<sosp>` units `<eosp>` )+ and the token that ends
    it: training may leave the question out.
    """
    return _CHAIN.fullmatch("".join(_letter(piece, end) for piece in pieces)) is not None


def _letter(piece: Piece, end: Mark) -> str:
    if (piece.kind, piece.text) == end:
        return "."
    if piece.kind == "text":
        return "t" if piece.text.strip() else "?"
    if piece.kind == "units":
        return "u" if len(piece.units) else "?"
    return _LETTERS.get(piece.text, "?") if piece.kind == "control" else "?"


# --- language --------------------------------------------------------------------------------

_OTHER_SCRIPTS = {
    "ARABIC": "ar fa ks ku pa ps sd ug ur",
    "ARMENIAN": "hy",
    "BENGALI": "as bn mni",
    "CANADIAN": "cr iu oj",
    "CJK": "cmn hak hsn ja ko nan wuu yue zh",
    "CYRILLIC": "ab av ba be bg ce cu cv kk kv ky mk mn os ru sr tg tk tt uk uz",
    "DEVANAGARI": "bho hi ks mr ne sa sd",
    "ETHIOPIC": "am ti",
    "GEORGIAN": "ka",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he yi",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    "KHMER": "km",
    "LAO": "lo",
    "MALAYALAM": "ml",
    "MEETEI": "mni",
    "MYANMAR": "my",
    "OL": "sat",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAANA": "dv",
    "THAI": "th",
    "TIBETAN": "bo dz",
    "YI": "ii",
}
"""First word of the Unicode names of a script's letters, and the languages written in it."""

_ALSO_LATIN = frozenset(["hak", "kk", "ku", "nan", "oj", "sr", "tk", "tt", "uz", "cr", "iu"])


def scripts_of(language: str) -> frozenset[str]:
    """The scripts a language is written in; Latin for those that are not listed."""
    found = {script for script, codes in _OTHER_SCRIPTS.items() if language in codes.split()}
    if not found or language in _ALSO_LATIN:
        found.add("LATIN")
    return frozenset(found)


def is_off_target(text: str, language: str) -> bool:
    """Whether a text cannot be of a language: most of its letters are of no script of it.

    Languages that share a script are not told apart. Text without any letter is off target.
    """
    expected = scripts_of(language)
    letters = [c for c in unicodedata.normalize("NFKC", text) if c.isalpha()]
    ours = np.array([_script(letter) in expected for letter in letters], np.bool_)
    return not len(ours) or bool(ours.mean() <= 0.5)


def _script(letter: str) -> str:
    return re.split("[ -]", unicodedata.name(letter, ""), maxsplit=1)[0]
