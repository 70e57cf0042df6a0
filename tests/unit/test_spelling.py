"""Banned words are banned in every spelling, and no other word is."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as Decoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from captiond.captioners.blip.captioner import hallucinations
from captiond.captioners.logits import BannedTokens, LogitsProcessor
from captiond.captioners.spelling import Speller, banned_sequences
from captiond.jobs import Generation

LETTERS = "abcdefghijklmnopqrstuvwxyz-'"
WORDS = (
    "ara ar ray ban bans band arafat a man with glasses sting blur ##fed ##fe ##ffe ##raf ##ed ##y"
)
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[SEP]",
    *LETTERS,
    *(f"##{each}" for each in LETTERS),
    *WORDS.split(),
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    pieces = {piece: number for number, piece in enumerate(dict.fromkeys(VOCABULARY))}
    tokenizer = Tokenizer(WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    tokenizer.decoder = Decoder()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[SEP]"])
    return tokenizer


def test_a_word_is_spelled_in_every_way(tokenizer: Tokenizer) -> None:
    speller = Speller(tokenizer.get_vocab())
    spelled = set(speller.spellings("arafed"))
    texts = {tokenizer.decode([*tokens]) for tokens in spelled}
    assert texts == {"arafed"}
    pieces = {tuple(map(tokenizer.id_to_token, tokens)) for tokens in spelled}
    assert {("ara", "##fed"), ("a", "##raf", "##ed"), ("ar", "##a", "##f", "##ed")} <= pieces
    assert list(speller.spellings("ban")) == [(tokenizer.token_to_id("ban"),)]
    assert not list(speller.spellings("日"))


def test_a_stem_is_the_beginning_of_words(tokenizer: Tokenizer) -> None:
    spelled = Speller(tokenizer.get_vocab()).spellings("ban", stem=True)
    pieces = {tuple(map(tokenizer.id_to_token, tokens)) for tokens in spelled}
    assert {("ban",), ("bans",), ("band",), ("b", "##a", "##n")} <= pieces
    assert ("b", "##a") not in pieces


@pytest.mark.parametrize(
    ("text", "banned"),
    [
        ("an arafed", True),
        ("araffes", True),
        ("a arafy", True),
        ("arrafed", True),
        ("a man with ray ban", True),
        ("ray-ban", True),
        ("rayban glasses", True),
        ("blury", True),
        ("arafat", False),
        ("a sting ray", False),
        ("a band", False),
        ("a blur", False),
        ("a giraffe", False),
    ],
)
def test_what_blip_invents_is_banned(tokenizer: Tokenizer, text: str, banned: bool) -> None:
    sequences = banned_sequences(hallucinations(), tokenizer)
    bans = BannedTokens.on(torch.device("cpu"), sequences, tokenizer.get_vocab_size())
    ids = torch.tensor([tokenizer.encode(text).ids])
    allowed = torch.zeros(1, tokenizer.get_vocab_size())
    scores = [bans(allowed, ids[:, :end])[0, ids[0, end]] for end in range(ids.shape[1])]
    assert (min(map(float, scores)) < 0) is banned


def test_a_phrase_that_the_vocabulary_cannot_spell_bans_nothing(tokenizer: Tokenizer) -> None:
    assert banned_sequences(("日本", "ray 日本*", "[SEP]"), tokenizer) == ()
    assert banned_sequences((), tokenizer) == ()


def test_what_ends_a_longer_prefix_is_banned_as_well() -> None:
    """Rows are compared with all prefixes, and the longest that matches decides."""
    sequences = ((9,), (1, 5), (2, 1, 6), (3, 2, 1, 7), (4, 8))
    bans = BannedTokens.on(torch.device("cpu"), sequences, 10)
    texts = torch.tensor([[3, 2, 1], [4, 2, 1], [2, 3, 1], [1, 1, 4], [3, 2, 2]])
    scores = bans(torch.zeros(5, 10), texts)
    found = [{n for n, score in enumerate(row) if score < 0} for row in scores.tolist()]
    assert found == [{5, 6, 7, 9}, {5, 6, 9}, {5, 9}, {8, 9}, {9}]
    begun = bans(torch.zeros(1, 10), torch.tensor([[1]]))
    assert {n for n, score in enumerate(begun[0].tolist()) if score < 0} == {5, 9}


def test_scores_are_not_changed_in_place() -> None:
    """Logits are memory of a captured step, and their log-probabilities are read afterwards."""
    bans = BannedTokens.on(torch.device("cpu"), ((1,), (2, 3)), 5)
    adjust = LogitsProcessor(Generation(no_repeat_ngram_size=2), 1, 4, bans)
    scores, texts = torch.zeros(1, 5), torch.tensor([[2, 0, 2]])
    assert adjust(scores, texts).isneginf().tolist() == [[True, True, False, True, False]]
    assert not scores.any()
