"""Byte-level BPE tokenizer trained on text like that of captions, so that captions have few tokens."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from opendimo.model.tiny.sizes import VOCABULARY

PHRASES = [
    "The camera is static, shakes, follows the person.",
    "The camera pans left, pans right, tilts up, tilts down, rolls clockwise, rolls counterclockwise.",
    "The camera dollies in, dollies out, trucks left, trucks right, pedestals up, pedestals down.",
    "The camera arcs left, arcs right, zooms in, zooms out, slowly, quickly, and then.",
    "A person walks, waves, turns, dances, raises the arms in a room, on a street, in front of a wall.",
]


def trained_tokenizer(special_tokens: list[str], *more_phrases: str) -> Tokenizer:
    """Train a tokenizer with at most `VOCABULARY` tokens, special tokens first (`<unk>`, if used, is one of them)."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>" if "<unk>" in special_tokens else None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special_tokens, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*PHRASES, *more_phrases], trainer)
    return tokenizer
