"""The passes in which a BLIP text decoder reads tags behind the beginnings of texts about images.

The beginnings are that of a template ("a photo of") and those of the caption that end before the
word that stands before a tag in the template ("a cat on", before "a sofa"). All columns of a pass
are read side by side: a mask lets each token attend to its own text only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captiond.captioners.blip.attention import MaskedAttention
from captiond.captioners.blip.cross import ImageContext
from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.keys_values import KeysValues
from captiond.captioners.blip.token_trie import NodePass, TokenTrie

MOST_PLACES = 5  # where a tag is tried: behind the template, and in the caption
LOWEST = -1e9  # the log-likelihood at a place that an image does not have


@dataclass(frozen=True, slots=True)
class MaskedColumns:
    """Tokens side by side, each at its `positions` [images, columns] within its own text.

    `mask` [images, 1, columns, begin + columns] says to which columns so far each attends. The
    keys and values of the first `begin` columns are in the cache.
    """

    begin: int
    positions: Tensor
    mask: Tensor
    attention: MaskedAttention

    def rows(self, table: Tensor) -> Tensor:
        return table[self.positions]

    def self_attention(
        self, query: Tensor, keys: Tensor, values: Tensor, cache: KeysValues
    ) -> Tensor:
        end = self.begin + keys.shape[2]
        for cached, new in zip(cache, (keys, values), strict=True):
            cached[:, :, self.begin : end] = new
        return self.attention(query, cache[0][:, :, :end], cache[1][:, :, :end], self.mask)


@dataclass(frozen=True, slots=True)
class Beginnings:
    """The texts before the tags of some images, in the columns of one pass.

    `tokens` and `positions` [images, columns] are those of the template, then those of the caption.
    `ends` [images, places] are the last columns of the beginnings, `lengths` their numbers of
    tokens, and `valid` says which of them an image has. `mask` [images, places, columns] has the
    columns of each, and `causal` [images, 1, columns, columns] those that each column attends to.
    """

    tokens: Tensor
    positions: Tensor
    ends: Tensor
    lengths: Tensor
    valid: Tensor
    mask: Tensor
    causal: Tensor

    @classmethod
    def of(
        cls,
        captions: Sequence[Sequence[int]],
        head: Sequence[int],
        places: Sequence[Sequence[int]],
        device: torch.device,
    ) -> "Beginnings":
        """Return the beginnings behind the template's `head`, and at places of the captions."""
        longest = max((of_image[-1] for of_image in places if of_image), default=0)
        number = 1 + max(map(len, places))
        padding = [0] * longest
        rows = [[*head, *[*caption, *padding][:longest]] for caption in captions]
        rest = [[len(head)] * (number - 1 - len(of_image)) for of_image in places]
        lengths = torch.tensor(
            [[len(head), *own, *more] for own, more in zip(places, rest, strict=True)],
            device=device,
        )
        numbers = torch.arange(number, device=device)
        valid = numbers <= torch.tensor([[len(own)] for own in places], device=device)
        begins = torch.where(valid & (numbers > 0), len(head), 0)
        at = torch.arange(len(head) + longest, device=device)
        in_head = at < len(head)
        causal = (at <= at[:, None]) & (in_head == in_head[:, None])
        images = len(captions)
        return cls(
            tokens=torch.tensor(rows, device=device),
            positions=torch.where(in_head, at, at - len(head)).expand(images, -1),
            ends=begins + lengths - 1,
            lengths=lengths,
            valid=valid,
            mask=(at >= begins[..., None]) & (at < (begins + lengths)[..., None]),
            causal=causal.expand(images, 1, -1, -1),
        )

    @property
    def columns(self) -> int:
        return self.tokens.shape[1]


def places_of(
    caption: Sequence[int], head: Sequence[int], leads: Sequence[int], room: int
) -> list[int]:
    """Return where a caption has a leading word, at most `MOST_PLACES` - 1 times.

    Its beginning there has at least one token, at most `room`, and is not that of the template.
    """
    places = [
        n
        for n, token in enumerate(caption)
        if token in leads and 0 < n <= room and list(caption[:n]) != head
    ]
    return places[: MOST_PLACES - 1]


@dataclass(frozen=True, slots=True)
class TagReading:
    """The passes over the texts of some images. Each continues what those before it have read."""

    forward: Forward
    context: ImageContext
    cache: list[KeysValues]
    trie: TokenTrie
    begun: Beginnings
    leads: Tensor  # the ids of the leading words

    @classmethod
    def begin(
        cls,
        forward: Forward,
        features: Tensor,
        captions: Sequence[Sequence[int]],
        trie: TokenTrie,
        head: Sequence[int],
        leads: Sequence[int],
    ) -> "TagReading":
        """Prepare to read the texts of a trie behind leading words, about images of these features
        [images, 1 + patches, width] and captions.
        """
        room = forward.positions - trie.depth - 1
        places = [places_of(caption, head, leads, room) for caption in captions]
        begun = Beginnings.of(captions, head, places, features.device)
        layers, heads, width = forward.text_shape
        columns = begun.columns + begun.ends.shape[1] * len(leads) + trie.longest_pass
        shape = (len(features), heads, columns, width)
        return cls(
            forward,
            forward.cross_attention.project(features),
            [(features.new_empty(shape), features.new_empty(shape)) for _ in range(layers)],
            trie,
            begun,
            torch.tensor(leads, device=features.device),
        )

    def leading_words(self) -> Tensor:
        """Read the beginnings. Return the log-probabilities of the leading words behind each,
        [images, places, leads].
        """
        begun = self.begun
        logits = self._read(begun.tokens, 0, begun.positions, begun.causal)
        ends = logits.gather(1, begun.ends[..., None].expand(-1, -1, logits.shape[2]))
        found = ends[..., self.leads] - ends.logsumexp(-1, keepdim=True)
        return found.masked_fill(~begun.valid[..., None], LOWEST)

    def first_tokens(self, of_leads: Tensor) -> Tensor:
        """Read each leading word at each place. Return the log-probabilities of the word and a
        first token, [images, places, first edges].
        """
        begun, leads, trie = self.begun, len(self.leads), self.trie
        images, places = begun.ends.shape
        own = torch.eye(places * leads, dtype=torch.bool, device=self.leads.device)
        before = begun.mask.repeat_interleave(leads, 1)
        mask = torch.cat((before, own.expand(images, -1, -1)), 2)[:, None]
        tokens = self.leads.repeat(places).expand(images, -1)
        positions = begun.lengths.repeat_interleave(leads, 1)
        logits = self._read(tokens, begun.columns, positions, mask)
        logits = logits.view(images, places, leads, -1)
        normal = of_leads - logits.logsumexp(-1)
        tokens = trie.tokens[: trie.firsts]
        return logits[:, :, trie.leads, tokens] + normal[:, :, trie.leads]

    def following(self, nodes: NodePass, places: Tensor) -> Tensor:
        """Read nodes, each at the place [images, first edges] of its first token. Return the
        log-probabilities of the tokens that follow, [images, edges of the pass].
        """
        begun, leads = self.begun, len(self.leads)
        images, number = begun.ends.shape
        place = places[:, nodes.firsts]  # [images, nodes]
        before = begun.mask.gather(1, place[..., None].expand(-1, -1, begun.columns))
        lead = place * leads + self.trie.leads[nodes.firsts]
        of_leads = torch.arange(number * leads, device=place.device) == lead[..., None]
        ancestors = nodes.ancestors.expand(images, -1, -1)
        mask = torch.cat((before, of_leads, ancestors), 2)[:, None]
        positions = begun.lengths.gather(1, place) + nodes.depths
        begin = begun.columns + number * leads
        logits = self._read(nodes.tokens.expand(images, -1), begin, positions, mask)
        normal = logits.logsumexp(-1)
        return logits[:, nodes.sources, self.trie.tokens[nodes.edges]] - normal[:, nodes.sources]

    def _read(self, tokens: Tensor, begin: int, positions: Tensor, mask: Tensor) -> Tensor:
        """Return float32 logits [images, columns, vocabulary]."""
        columns = MaskedColumns(begin, positions, mask, self.forward.text_attention)
        logits = self.forward.read(tokens, columns, self.cache, self.context)
        return logits.float().view(*tokens.shape, -1)
