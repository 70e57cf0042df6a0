"""How likely a BLIP model finds tags in a text about an image, compared with a blank image.

A tag is tried behind the beginning of a template ("a photo of a {tag}"), and at the places where
the caption of the image has the same word: behind "a cat on" of "a cat on a sofa", "a couch" is
likely as well. The log-likelihood of a tag is that of the word and the tag at the place where it is
the greatest. Its score is the logarithm of the ratio of its probability to that behind the template
about a blank image, which counts as `SMOOTHING` at least.

The beginnings are read once for an image, and so is each token that several tags begin with
(`token_trie`). The last token of a tag is predicted, not read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from captiond.captioners.blip.forward import Forward
from captiond.captioners.blip.tag_reading import LOWEST, TagReading
from captiond.captioners.blip.token_trie import TokenTrie, trie_of
from captiond.vocabulary import MOST_TOKENS, Template, Vocabulary

RANKS = 2  # of the likeliest places of a first token, at which the rest of a tag is tried
# A smaller probability about the blank image says nothing about the tag: the model has never seen
# such an image. docs/vocabulary.md has the figures with and without smoothing.
SMOOTHING = 1e-3
MARGIN = 0.01  # nats; rounding must not exclude a tag whose score is exactly its threshold
# On a CPU, an image of BLIP-base takes as long as some 450 nodes. So the tags of an image never
# take much longer than its caption, however many tags there are: docs/vocabulary.md has figures.
MOST_NODES = 512
GPU_IMAGES = 16  # in one pass, so that the logits of all its nodes take less than a gigabyte
KEPT_TEXTS = 20_000  # whose likelihoods about the blank image are remembered
KEPT_LISTS = 4  # lists of tags that stay in the form that the model reads


@dataclass(frozen=True, slots=True)
class TagTexts:
    """Tags as a model reads them. `numbers` are the places of these tags in their list: a tag
    that is too long, or has a word that the tokenizer does not know, is left out.
    """

    numbers: list[int]
    trie: TokenTrie | None  # None if no tag is left
    blank: Tensor  # [tags], their smoothed log-likelihoods about the blank image


class TagLikelihood:
    """Scores the tags of a vocabulary by the features of images.

    `begin` is the token that begins texts, and `blank` [1, 3, height, width] the normalized pixels
    of the blank image.
    """

    def __init__(self, forward: Forward, tokenizer: Tokenizer, begin: int, blank: Tensor) -> None:
        self._forward, self._tokenizer = forward, tokenizer
        self._begin, self._blank_pixels = begin, blank
        self._unknown = tokenizer.token_to_id("[UNK]")
        self._blank: dict[tuple[Template, str], float] = {}
        self._lists: dict[tuple[Template, tuple[str, ...]], TagTexts] = {}

    def scores(
        self,
        features: Tensor,
        captions: Sequence[Sequence[int]],
        vocabulary: Vocabulary,
        thresholds: Sequence[float] | None,
    ) -> tuple[list[int], Tensor]:
        """Return which tags of a vocabulary have scores, by their places in it, and the scores in
        nats, float32 [images, those tags].

        `features` [images, 1 + patches, width] are of the images, and `captions` are the token ids
        of their captions. A score below the threshold of its tag may be lower than it really is.
        Without thresholds, every score is exact.
        """
        texts = self._texts(vocabulary)
        if texts.trie is None:
            return [], torch.zeros(len(features), 0)
        least = None
        if thresholds is not None:
            needed = [thresholds[number] for number in texts.numbers]
            least = texts.blank + texts.blank.new_tensor(needed) - MARGIN
        likelihoods = self.likelihoods(features, captions, texts.trie, vocabulary.template, least)
        return texts.numbers, likelihoods - texts.blank

    def unknown(self, vocabulary: Vocabulary) -> list[str]:
        """Return the tags of a vocabulary that have no score."""
        known = set(self._texts(vocabulary).numbers)
        return [text for number, text in enumerate(vocabulary.texts) if number not in known]

    def likelihoods(
        self,
        features: Tensor,
        captions: Sequence[Sequence[int]],
        trie: TokenTrie,
        template: Template,
        least: Tensor | None = None,
    ) -> Tensor:
        """Return the log-likelihoods of the texts of a trie, float32 [images, texts].

        A text that cannot have the log-likelihood `least` [texts] is not read to its end: no text
        is likelier than its beginning. On a CPU, at most `MOST_NODES` nodes are read then.
        """
        head, leads = self._heads(template)
        needs = None if least is None else least_of_firsts(trie, least)
        size = GPU_IMAGES if features.is_cuda else self._forward.chunk
        most = None if features.is_cuda else MOST_NODES
        if most is not None and RANKS * trie.nodes > most:
            size = 1  # which tags are read for an image must not depend on the other images
        found = []
        for number, chunk in enumerate(torch.split(features, size)):
            texts = captions[number * size : (number + 1) * size]
            reading = TagReading.begin(self._forward, chunk, texts, trie, head, leads)
            found.append(likelihoods_of(reading, needs, most))
        return torch.cat(found)

    def trie(self, tags: Sequence[str], template: Template) -> tuple[list[int], TokenTrie | None]:
        """Return the trie of those tags whose words the tokenizer knows, and their places.

        Tags that are too long are left out as well.
        """
        encoded = self._tokenizer.encode_batch(
            [f"{tag} {template.after}" for tag in tags], add_special_tokens=False
        )
        after = self._tokenizer.encode(template.after, add_special_tokens=False)
        room = self._forward.positions - len(self._heads(template)[0]) - 1
        room = min(room, MOST_TOKENS + len(after.ids))
        known = [
            number
            for number, each in enumerate(encoded)
            if each.ids and self._unknown not in each.ids and len(each.ids) <= room
        ]
        if not known:
            return [], None
        leads = [template.words.index(template.word_before(tags[n])) for n in known]
        texts = [encoded[number].ids for number in known]
        return known, trie_of(texts, leads, self._blank_pixels.device)

    def _texts(self, vocabulary: Vocabulary) -> TagTexts:
        """Return tags as the model reads them. The latest lists are kept."""
        tags, template = vocabulary.texts, vocabulary.template
        texts = self._lists.pop((template, tags), None)
        if texts is None:
            numbers, trie = self.trie(tags, template)
            texts = TagTexts(numbers, trie, self._of_blank([tags[n] for n in numbers], template))
        self._lists[template, tags] = texts  # the least recently used list is the first
        while len(self._lists) > KEPT_LISTS:
            del self._lists[next(iter(self._lists))]
        return texts

    def _of_blank(self, tags: Sequence[str], template: Template) -> Tensor:
        """Return the smoothed log-likelihoods of tags about the blank image. Each is computed
        once.
        """
        new = [tag for tag in dict.fromkeys(tags) if (template, tag) not in self._blank]
        _, trie = self.trie(new, template) if new else ([], None)
        if trie is not None:
            features = self._forward.encode(self._blank_pixels)
            found = self.likelihoods(features, [[]], trie, template)[0]
            smoothed = (found.double().exp() + SMOOTHING).log().tolist()
            self._blank.update(zip([(template, tag) for tag in new], smoothed, strict=True))
        values = [self._blank[template, tag] for tag in tags]
        for key in list(self._blank)[: max(0, len(self._blank) - KEPT_TEXTS)]:
            del self._blank[key]
        return torch.tensor(values, device=self._blank_pixels.device)

    def _heads(self, template: Template) -> tuple[list[int], list[int]]:
        """Return the token ids before the word that stands before a tag, and the ids of that word
        in its forms.
        """
        forms = [
            self._tokenizer.encode(f"{template.before} {word}", add_special_tokens=False).ids
            for word in template.words
        ]
        return [self._begin, *forms[0][:-1]], [form[-1] for form in forms]


def likelihoods_of(reading: TagReading, needs: Tensor | None, most: int | None) -> Tensor:
    """Return the log-likelihoods of the texts of a trie, [images, texts].

    Texts whose first token has less than it `needs` [first edges] are not read to their end, and at
    most `most` nodes are read, those below the most promising first tokens.
    """
    trie = reading.trie
    firsts = reading.first_tokens(reading.leading_words())  # [images, places, first edges]
    likeliest = firsts.topk(min(RANKS, firsts.shape[1]), dim=1)
    passes = [trie.passes] * likeliest.values.shape[1]
    if needs is not None:
        promise = (likeliest.values - needs).amax(0)  # [ranks, first edges]
        passes = [trie.passes_below(chosen) for chosen in promising(trie, promise, most)]
    of_ranks = []
    for rank, nodes_of_rank in enumerate(passes):
        values, places = likeliest.values[:, rank], likeliest.indices[:, rank]
        total = values.new_full((len(values), len(trie.tokens)), LOWEST)
        total[:, : trie.firsts] = values
        for nodes in nodes_of_rank:
            total[:, nodes.edges] = reading.following(nodes, places)
        for edges in trie.levels:
            total[:, edges] += total[:, trie.parents[edges]]
        of_ranks.append(total[:, trie.last])
    return torch.stack(of_ranks).amax(0)


def promising(trie: TokenTrie, promise: Tensor, most: int | None) -> list[list[int]]:
    """Return for each rank the first edges whose nodes are read: the most promising ones.

    `promise` [ranks, first edges] is how much more likely than needed the first tokens are.
    """
    chosen: list[list[int]] = [[] for _ in promise]
    entries = [
        (value, rank, first)
        for rank, of_rank in enumerate(promise.tolist())
        for first, value in enumerate(of_rank)
        if value >= 0 and first in trie.subtrees
    ]
    nodes = 0
    for _, rank, first in sorted(entries, reverse=True):
        nodes += sum(len(part.tokens) for part in trie.subtrees[first])
        if most is not None and nodes > most:
            break
        chosen[rank].append(first)
    return chosen


def least_of_firsts(trie: TokenTrie, least: Tensor) -> Tensor:
    """Return the least [first edges] of what the texts of each first edge need."""
    needs = least.new_full((trie.firsts,), torch.inf)
    return needs.scatter_reduce(0, trie.first, least, "amin")
