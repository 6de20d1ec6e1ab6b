"""Text in the form that the official evaluators read: GloVe vectors, part-of-speech tags, 20 words.

Source: Guo et al. 2022, `utils/word_vectorizer.py` and `data/dataset.py` of EricGuo5513/text-to-motion, with its files
`glove/our_vab_{data.npy,words.pkl,idx.pkl}`. Tags come from the data set's text files, or from spaCy for other text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from adaqf_train.data.clips import ClipFiles, load_array
from adaqf_train.data.layout import TEXTS
from adaqf_train.data.pickles import read_pickle
from adaqf_train.errors import DataError

WORDS = 20  # of a caption, between the start and the end token
PARTS = ("words", "idx")  # of the vocabulary, a file each
VECTOR = 300  # width of a word vector
Token = tuple[str, str]  # a word and its part of speech

# The order of the one-hot code is part of the evaluators' weights.
TAGS = ("VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV")
# Words with their own tag, whatever their part of speech: the indices of these groups follow those of the tags above.
_GROUPS = (
    "left right clockwise counterclockwise anticlockwise forward back backward up down straight curve",
    "arm chin foot feet face hand mouth leg waist eye knee shoulder thigh",
    "stair dumbbell chair window floor car ball handrail baseball basketball",
    "walk run swing pick bring kick put squat throw hop dance jump turn stumble stop sit lift lower raise wash stand "
    "kneel stroll rub bend balance flap jog shuffle lean rotate spin spread climb",
    "slowly carefully fast careful slow quickly happy angry sad happily angrily sadly",
)
OTHER = len(TAGS) + len(_GROUPS)
TAG_CODES = OTHER + 1  # 15
_GROUP_OF = {word: len(TAGS) + i for i, words in enumerate(_GROUPS) for word in words.split()}
_TAG_OF = {tag: i for i, tag in enumerate(TAGS)}


class WordVectors:
    """The official vocabulary: 4,199 words, each with its GloVe vector (300,)."""

    def __init__(self, folder: Path) -> None:
        """folder: the official `glove/`. DataError names the file that is missing or damaged."""
        vectors = load_array(folder / "our_vab_data.npy")
        again = "Download the official glove files again."
        words, index = (read_pickle(folder / f"our_vab_{part}.pkl", "the official word list", again) for part in PARTS)
        if not (isinstance(words, list) and isinstance(index, dict) and all(isinstance(word, str) for word in words)):
            raise DataError(f"{folder}: contains no list of words and their index. Download the official files again.")
        if not ({"sos", "eos", "unk"} <= set(words) <= index.keys()):
            raise DataError(
                f"{folder}: lacks sos, eos, unk, or the index of a word. Download the official files again."
            )
        rows = [index[word] for word in words]
        fits = all(isinstance(row, int) and 0 <= row < len(vectors) for row in rows)
        if vectors.ndim != 2 or vectors.shape[1] != VECTOR or not fits or not np.isfinite(vectors).all():
            raise DataError(
                f"{folder / 'our_vab_data.npy'}: shape {vectors.shape}, expected finite vectors of {VECTOR} for "
                f"{len(index)} words. Download the official files again."
            )
        self.vectors = {word: vectors[row].astype(np.float32) for word, row in zip(words, rows, strict=True)}

    def encode(self, tokens: Sequence[Token]) -> tuple[np.ndarray, np.ndarray, int]:
        """Encode a caption: word vectors (22, 300), tag codes (22, 15), and its length including both end tokens."""
        tokens = [("sos", "OTHER"), *tokens[:WORDS], ("eos", "OTHER")]
        length = len(tokens)
        tokens += [("unk", "OTHER")] * (WORDS + 2 - length)
        codes = np.zeros((len(tokens), TAG_CODES), dtype=np.float32)
        for row, (word, tag) in zip(codes, tokens, strict=True):
            # A word without a vector becomes "unk" and loses its tag.
            row[_GROUP_OF.get(word, _TAG_OF.get(tag, OTHER)) if word in self.vectors else OTHER] = 1
        unknown = self.vectors["unk"]
        return np.stack([self.vectors.get(word, unknown) for word, _ in tokens]), codes, length


def parse_tokens(field: str) -> tuple[Token, ...]:
    """Parse the second field of a caption line, "a/DET person/NOUN …"; DataError for an entry without a tag."""
    tokens = []
    for entry in field.split():
        word, slash, tag = entry.rpartition("/")
        if not slash:
            raise DataError(f"{entry!r} has no part of speech. Expected word/TAG; use the official text files.")
        tokens.append((word, tag))
    return tuple(tokens)


def tokens_of(folder: Path) -> dict[str, tuple[Token, ...]]:
    """Read the tokens of each caption in a folder's text files; DataError if they have none, as after `prepare`."""
    files, found = ClipFiles(folder), {}
    for name in sorted(files.captioned):
        for line in files.text(name).decode("utf-8", errors="replace").splitlines():
            caption, _, rest = line.partition("#")
            if rest:
                try:
                    found[caption.strip()] = parse_tokens(rest.partition("#")[0])
                except DataError as error:
                    raise DataError(f"{files.text_place(name)}: {error}") from None
    if not any(tag != "OTHER" for tokens in found.values() for _, tag in tokens):
        raise DataError(
            f"{folder / TEXTS}: the words have no parts of speech, which the official evaluators need. Use the data "
            "set as distributed, or score with the independent evaluator alone."
        )
    return found


def tokens_for(caption: str, known: Mapping[str, Sequence[Token]]) -> Sequence[Token]:
    """Return a caption's tokens: the data set's if it has them, else spaCy's; DataError without its English model."""
    return known[caption] if caption in known else _tag(caption)


def _tag(caption: str) -> list[Token]:
    """Tag as upstream's `process_text` (`scripts/motion_process`): without hyphens, verbs and nouns as lemmas."""
    tokens = []
    for token in _spacy()(caption.replace("-", "")):
        word = token.text
        if word.isalpha():
            lemma = token.pos_ in ("NOUN", "VERB") and word != "left"
            tokens.append((token.lemma_ if lemma else word, token.pos_))
    return tokens


@cache
def _spacy() -> Callable:
    try:
        import spacy

        return spacy.load("en_core_web_sm")
    except (ImportError, OSError) as error:
        raise DataError(
            "The official evaluators need parts of speech, and this caption is not in the data set's text files: "
            "install spacy and its model en_core_web_sm, or score with the independent evaluator."
        ) from error
