"""BLIP: pixels in, captions out.

The model is Salesforce's (Li et al., "BLIP: Bootstrapping Language-Image Pre-training", 2022), as
transformers has it. Any checkpoint in that layout can be loaded.
"""

import gc
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from captiond.captioners.blip.capture import CudaCapture
from captiond.captioners.blip.checkpoint import Checkpoint, SearchTokens, read_plain
from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.graphs import captured
from captiond.captioners.blip.image_matching import ImageTextMatching, check_size
from captiond.captioners.blip.matching import Matcher
from captiond.captioners.blip.matching_weights import read_matching, share_encoding
from captiond.captioners.blip.search import Search
from captiond.captioners.blip.tag_likelihood import TagLikelihood
from captiond.captioners.blip.tag_scorer import TagScorer
from captiond.captioners.blip.vision import VisionEncoder
from captiond.captioners.blip.weights import CHANNELS, BlipModel
from captiond.captioners.choices import ROWS, Choices, default_choices
from captiond.captioners.devices import (
    BatchPixels,
    allocate_pixels,
    dtype_of,
    on_device,
    set_up_cuda,
)
from captiond.captioners.fusion import kernels_for
from captiond.captioners.linear import has_onednn, linears
from captiond.captioners.logits import BannedTokens
from captiond.captioners.norm import norms
from captiond.captioners.protocol import Capabilities, Placement
from captiond.captioners.quantization import image_linears
from captiond.captioners.sequences import Sequences, SpecialTokens
from captiond.captioners.spelling import banned_sequences
from captiond.confidence import of_caption, tokens_of
from captiond.decoding.geometry import Geometry, Pixels
from captiond.errors import ModelBroken
from captiond.jobs import Caption, Generation, SearchRules
from captiond.settings.config import Precision
from captiond.vocabulary import Vocabulary

CPU_ROWS, GPU_ROWS = ROWS[0], 40_000  # patches that go through the vision transformer at a time


@dataclass(frozen=True, slots=True)
class Normalization:
    """Scales bytes, then subtracts `mean` and divides by `std`."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return float32 [batch, 3, height, width] of uint8 [batch, height, width, 3].

        The steps and their precisions are those of `BlipImageProcessorPil`, so that the result
        is the same to the last bit.
        """
        scaled = (pixels.to(torch.float64) * self.scale).to(torch.float32)
        mean = torch.tensor(self.mean, device=pixels.device)
        std = torch.tensor(self.std, device=pixels.device)
        return ((scaled - mean) / std).permute(0, 3, 1, 2).contiguous()

    def to(self, pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return the same in a precision. If it is not fp32, fewer steps with less memory do."""
        if dtype == torch.float32:
            return self(pixels)
        scale = torch.tensor([self.scale / std for std in self.std], device=pixels.device)
        pairs = zip(self.mean, self.std, strict=True)
        offset = torch.tensor([-mean / std for mean, std in pairs], device=pixels.device)
        normalized = torch.addcmul(offset, pixels.to(torch.float32), scale).to(dtype)
        return normalized.permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class TextTokens:
    """The number of tokens that texts are made of, and the id of the one that ends them."""

    number: int
    end: int


def normalization_of(processor: Any) -> Normalization:
    """Return the normalization of an image processor of transformers."""
    mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    return Normalization(processor.rescale_factor, mean, std)


class Blip:
    """A BLIP model on its device, as `protocol.Captioner` describes a captioner."""

    # of every BLIP model; a model has more if captiond's own search runs it
    capabilities = Capabilities(prompt=True, beams=True, scores=True, several_captions=True)

    def __init__(
        self,
        search: SearchTokens,
        tokenizer: Tokenizer,
        processor: Any,
        placement: Placement,
        image_bytes: int,
        tokens: TextTokens,
        scorer: TagScorer | None = None,
        matching: ImageTextMatching | None = None,
    ) -> None:
        self._search = search
        self._scorer, self._matching = scorer, matching
        self.capabilities = replace(
            self.capabilities, vocabulary=scorer is not None, matching=matching is not None
        )
        # Special tokens in a prompt are text: "[SEP]" must not end it.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._tokens, self._unknown = tokens, tokenizer.token_to_id("[UNK]")
        self._banned: dict[SearchRules, BannedTokens] = {}
        added = tokenizer.get_added_tokens_decoder()
        self._special = {number for number, token in added.items() if token.special}
        self.device, self.precision = placement.device, placement.precision
        self.image_bytes = image_bytes
        self.geometry = Geometry(
            processor.size["height"], processor.size["width"], int(processor.resample)
        )
        self._normalize = normalization_of(processor)

    @classmethod
    def load(cls, folder: Path, placement: Placement) -> "Blip":
        """Load a model in the Hugging Face layout. Pickled weights are loaded as weights only.

        Raises:
            ModelBroken: the files do not make a BLIP model.
        """
        device, precision = placement.device, placement.precision
        if device.type == "cuda":
            set_up_cuda(device)
        try:
            checkpoint = read_checkpoint(folder, placement)
        except Exception as error:  # libraries raise whatever the damage of a file leads to
            raise ModelBroken(f"{folder}: cannot be loaded as a BLIP model: {error}") from error
        model, tokenizer, processor = checkpoint.model, checkpoint.tokenizer, checkpoint.processor
        size, text = image_bytes(model, placement.precision), model.config.text_config
        search, scorer, matching = checkpoint.search, None, None
        if search is None:
            choices = placement.choices or default_choices(precision)
            forward = forward_of(model, precision, choices)
            search = search_over(forward, model, cuda_graphs=placement.cuda_graphs)
            matching = load_matching(folder, placement, choices, processor)
            scorer = TagScorer(tag_likelihood(forward, tokenizer, model, placement), matching)
        del model, checkpoint  # reference cycles within it would keep the mapped file in memory
        gc.collect()
        tokens = TextTokens(text.vocab_size, text.sep_token_id)
        return cls(search, tokenizer, processor, placement, size, tokens, scorer, matching)

    def allocate_pixels(self, images: int) -> Pixels:
        return allocate_pixels(images, self.geometry, self.device)

    @torch.inference_mode()
    def caption(
        self, pixels: BatchPixels, generation: Generation, vocabulary: Vocabulary | None = None
    ) -> list[tuple[Caption, ...]]:
        """Return the captions of a batch of pixels, uint8 [batch, height, width, 3]; best first."""
        on_model = on_device(pixels, self.device)
        sequences = self.search(on_model, generation)
        texts: list[str] = self._tokenizer.decode_batch(
            sequences.tokens.flatten(0, 1).tolist(), skip_special_tokens=True
        )
        prompt, notes = len(self._prompt(generation.prompt)), self._notes(generation.prompt)
        captions = [
            replace(self._caption(text.strip(), score, ids, token_scores, prompt), notes=notes)
            for text, score, ids, token_scores in zip(
                texts,
                sequences.scores.flatten().tolist(),
                sequences.tokens.flatten(0, 1).tolist(),
                sequences.token_scores.flatten(0, 1).tolist(),
                strict=True,
            )
        ]
        each = sequences.tokens.shape[1]
        of_images = [tuple(captions[n : n + each]) for n in range(0, len(captions), each)]
        if generation.rerank and each > 1:
            of_images = self.reranked(on_model, sequences, of_images)
        if vocabulary is None:
            return of_images
        assert self._scorer is not None  # or else the capabilities have no vocabulary
        assert sequences.features is not None
        best_tokens = sequences.tokens[:, 0].tolist()
        scored = self._scorer.scored(on_model, sequences.features, best_tokens, vocabulary)
        # A note on the vocabulary of the settings would be the same in all results.
        more = self._scorer.notes(vocabulary) if generation.vocabulary else ()
        return [
            (replace(best, scored=tags, notes=best.notes + more), *others)
            for (best, *others), tags in zip(of_images, scored, strict=True)
        ]

    def reranked(
        self, pixels: torch.Tensor, sequences: Sequences, captions: list[tuple[Caption, ...]]
    ) -> list[tuple[Caption, ...]]:
        """Return the captions of each image, those first that fit it best."""
        assert self._matching is not None  # or else the capabilities have no matching
        texts = [[caption.text for caption in of_image] for of_image in captions]
        scores = self._matching.scores(pixels, sequences.features, texts).tolist()
        return [
            tuple(of_image[n] for n in sorted(range(len(row)), key=row.__getitem__, reverse=True))
            for of_image, row in zip(captions, scores, strict=True)
        ]

    def _caption(
        self, text: str, score: float, ids: list[int], log_probabilities: list[float], prompt: int
    ) -> Caption:
        """Return a caption whose first `prompt` token ids are those of the prompt."""
        words = [number for number, token in enumerate(ids) if token not in self._special]
        length = max([prompt - 1, *words]) + 2  # with the end token, if the text has one
        pieces = ["" if token in self._special else self._piece(token) for token in ids[:length]]
        tokens = tokens_of(text, pieces, log_probabilities[:length], prompt)
        ended = self._tokens.end in ids[prompt:]
        return Caption(text, round(score, 6), of_caption(tokens), tokens=tokens, ended=ended)

    def _piece(self, token: int) -> str:
        """Return the characters of a token."""
        word: str | None = self._tokenizer.id_to_token(token)
        return (word or "").removeprefix("##")

    def search(self, pixels: torch.Tensor, generation: Generation) -> Sequences:
        """Return the captions of pixels, uint8 [batch, height, width, 3], as token ids."""
        normalized = self._normalize.to(pixels, dtype_of(self.precision, self.device))
        prompt, banned = self._prompt(generation.prompt), self._banned_by(generation.rules)
        return self._search(normalized, prompt, generation, banned)

    def _banned_by(self, rules: SearchRules) -> BannedTokens | None:
        """Return the tokens that some rules ban. Rules come from settings, so there are few."""
        if not (rules.ban_hallucinations or rules.banned_words):
            return None
        if rules not in self._banned:
            phrases = (*(hallucinations() if rules.ban_hallucinations else ()), *rules.banned_words)
            sequences = banned_sequences(phrases, self._tokenizer)
            self._banned[rules] = BannedTokens.on(self.device, sequences, self._tokens.number)
        return self._banned[rules]

    def _notes(self, prompt: str) -> tuple[str, ...]:
        """Return a note if the model does not know words of a prompt: it cannot read them."""
        encoding = self._tokenizer.encode(prompt)
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        unknown = [prompt[start:end] for token, (start, end) in pairs if token == self._unknown]
        if not unknown:
            return ()
        return (f"prompt: the model does not know {', '.join(map(repr, dict.fromkeys(unknown)))}",)

    def _prompt(self, text: str) -> torch.Tensor:
        """Return the token ids of a prompt, without the end token that the tokenizer appends."""
        ids: list[int] = self._tokenizer.encode(text).ids[:-1]
        return torch.tensor(ids, device=self.device)


@cache
def hallucinations() -> tuple[str, ...]:
    """Return the words that BLIP models are known to invent."""
    lines = Path(__file__).with_name("hallucinations.txt").read_text("utf-8").splitlines()
    return tuple(line for line in map(str.strip, lines) if line and not line.startswith("#"))


def read_checkpoint(folder: Path, placement: Placement) -> Checkpoint:
    """Read a checkpoint by captiond's own means if it is plain, else by transformers."""
    checkpoint = read_plain(folder, placement)
    if checkpoint is not None:
        return checkpoint
    from captiond.captioners.blip import by_transformers

    return by_transformers.read_checkpoint(folder, placement)


def search_for(
    model: BlipModel,
    precision: Precision,
    *,
    cuda_graphs: bool = True,
    choices: Choices | None = None,
) -> Search:
    """Return captiond's own search."""
    forward = forward_of(model, precision, choices or default_choices(precision))
    return search_over(forward, model, cuda_graphs=cuda_graphs)


def search_over(forward: Forward, model: BlipModel, *, cuda_graphs: bool) -> Search:
    """Return a search over the forward pass of a model."""
    config: Any = model.config.text_config
    tokens = SpecialTokens(config.bos_token_id, config.sep_token_id, config.pad_token_id)
    if model.device.type == "cuda" and cuda_graphs:
        return Search(captured(forward, CudaCapture(model.device), model.device), tokens)
    return Search(forward, tokens)


def forward_of(model: BlipModel, precision: Precision, choices: Choices) -> Forward:
    """Return the forward pass that computes in the chosen ways, where the device has them.

    Raises:
        ModelBroken: the precision needs kernels that do not work here.
    """
    on_cpu = model.device.type == "cpu"
    if precision == "fp8" and not on_cpu and kernels_for(model.dtype, model.device) is None:
        raise ModelBroken("[model] precision = fp8 needs Triton, which does not work here")
    return Forward(
        model,
        image_linears(precision, model.device, choices.image_linear),
        rows=choices.rows if on_cpu else GPU_ROWS,
        absorb=on_cpu and has_onednn(model.dtype),
        make_text=linears(precision, model.device, choices.text_linear),
        choices=choices,
    )


def load_matching(
    captioner: Path, placement: Placement, choices: Choices, processor: Any
) -> ImageTextMatching | None:
    """Load the matching model of a placement, or None if it has none.

    `captioner` is the folder of the captioner, and `processor` its image processor.

    Raises:
        ModelBroken: the files do not make such a model, or it takes images of another size.
    """
    folder = placement.matcher
    if folder is None:
        return None
    checkpoint = read_matching(folder, placement)
    model, device, precision = checkpoint.model, placement.device, placement.precision
    make_text = linears(precision, device, choices.text_linear)
    if share_encoding(folder, captioner):
        return ImageTextMatching(Matcher(model, checkpoint.tokenizer, make_text), None)
    check_size(checkpoint.processor, processor, folder)
    make = image_linears(precision, device, choices.image_linear)
    rows = choices.rows if device.type == "cpu" else GPU_ROWS
    vision = VisionEncoder(
        model, make, norms(kernels_for(model.dtype, device)), rows=rows, way=choices.attention
    )
    normalize = normalization_of(checkpoint.processor)
    dtype = dtype_of(precision, device)

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        return vision.encode(normalize.to(pixels, dtype))

    return ImageTextMatching(Matcher(model, checkpoint.tokenizer, make_text), encode)


def tag_likelihood(
    forward: Forward, tokenizer: Tokenizer, model: BlipModel, placement: Placement
) -> TagLikelihood:
    """Return what scores tags with the forward pass of a model.

    The blank image has the mean colour of the images that the model was trained on.
    """
    config: Any = model.config
    side: int = config.vision_config.image_size
    dtype = dtype_of(placement.precision, placement.device)
    blank = torch.zeros(1, CHANNELS, side, side, dtype=dtype, device=placement.device)
    return TagLikelihood(forward, tokenizer, config.text_config.bos_token_id, blank)


def image_bytes(model: BlipModel, precision: Precision) -> int:
    """Return the memory of the keys and values of cross-attention for one image, in bytes.

    The rest of an image takes little. A batch with absorbed cross-attention takes less.
    """
    text: Any = model.config.text_config
    patches: int = model.vision_model.embeddings.position_embedding.shape[1]
    numbers: int = 2 * text.num_hidden_layers * patches * text.hidden_size
    return numbers * (1 if precision == "fp8" else model.dtype.itemsize)
