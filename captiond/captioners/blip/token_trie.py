"""Texts as a trie of their tokens, so that a shared beginning is computed once.

An edge is a token that follows a beginning. A node is a beginning that the model has to read,
because some text continues it: the last token of a text is only predicted, never read. So a text of
one token costs nothing beyond the text before it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor

# So that the logits and the masks of a pass stay small. A part of a subtree has a few nodes more.
NODES_OF_A_PASS = 256
NONE = -1


@dataclass(slots=True)
class Branch:
    """A part of the trie while it is built: the branches that continue it, and texts that end."""

    children: dict[int, "Branch"] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class NodePass:
    """Nodes that are read in one pass: subtrees of first tokens, or parts of them.

    All have one entry for each node. `depths` are 1 for the first token of a text. `firsts` are the
    edges of the first tokens that they come from. `ancestors` [nodes, nodes] is True where the
    column is the node itself or one before it in the same text. `edges` follow these nodes:
    `sources` are their nodes, by their places in this pass.
    """

    tokens: Tensor
    depths: Tensor
    firsts: Tensor
    ancestors: Tensor
    edges: Tensor
    sources: Tensor

    def to(self, device: torch.device) -> "NodePass":
        return NodePass(
            self.tokens.to(device),
            self.depths.to(device),
            self.firsts.to(device),
            self.ancestors.to(device),
            self.edges.to(device),
            self.sources.to(device),
        )


@dataclass(frozen=True, slots=True)
class TokenTrie:
    """A trie of texts, as index tensors on the device of a model.

    Edges are numbered with those of first tokens first. `leads` [first edges] say behind which of
    the leading words a text stands. `parents` [edges] are the edges before them. `levels` are the
    edges behind the first ones, by depth. `last` [texts] is the last edge of each text, and `first`
    [texts] its first one. `subtrees` have the nodes of each first edge that has any, in one part or
    several; they are in the memory of the host. `passes` have all nodes.
    """

    leads: Tensor
    tokens: Tensor
    parents: Tensor
    levels: tuple[Tensor, ...]
    first: Tensor
    last: Tensor
    subtrees: dict[int, tuple[NodePass, ...]]
    passes: tuple[NodePass, ...]

    @property
    def depth(self) -> int:
        """The number of tokens of the longest text."""
        return 1 + len(self.levels)

    @property
    def firsts(self) -> int:
        """The number of edges of first tokens."""
        return len(self.leads)

    @property
    def nodes(self) -> int:
        return sum(len(each.tokens) for each in self.passes)

    @property
    def longest_pass(self) -> int:
        """The largest number of nodes in a pass, over all nodes or below some first edges."""
        largest = max((len(each.tokens) for each in self.passes), default=0)
        return max(largest, min(self.nodes, NODES_OF_A_PASS))

    def passes_below(self, firsts: Iterable[int]) -> tuple[NodePass, ...]:
        """Return passes over the nodes below some first edges."""
        parts = chain.from_iterable(self.subtrees[first] for first in firsts)
        return tuple(joined(group).to(self.tokens.device) for group in grouped(parts))


@dataclass(slots=True)
class EdgeNumbers:
    """The edges of a trie while they are numbered."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    children: list[list[int]] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)  # from text to its last edge

    def add(self, token: int, parent: int, branch: Branch) -> int:
        number = len(self.tokens)
        self.tokens.append(token)
        self.parents.append(parent)
        self.depths.append(1 if parent == NONE else self.depths[parent] + 1)
        self.children.append([])
        if parent != NONE:
            self.children[parent].append(number)
        self.ends.update(dict.fromkeys(branch.ends, number))
        return number

    def add_below(self, edge: int, branch: Branch) -> Iterator[int]:
        """Number all edges below an edge. Yield those that lead to nodes, in the order in which
        they are read.
        """
        if not branch.children:
            return
        yield edge
        for token, child in branch.children.items():
            yield from self.add_below(self.add(token, edge, child), child)

    def above(self, edge: int) -> list[int]:
        """Return the edges before an edge, the first one first."""
        before = []
        while (edge := self.parents[edge]) != NONE:
            before.append(edge)
        return before[::-1]


def trie_of(
    texts: Sequence[Sequence[int]], leads: Sequence[int], device: torch.device
) -> TokenTrie:
    """Return the trie of texts of at least one token, each behind one of the leading words."""
    roots: dict[tuple[int, int], Branch] = {}
    for number, (text, lead) in enumerate(zip(texts, leads, strict=True)):
        branch = roots.setdefault((lead, text[0]), Branch())
        for token in text[1:]:
            branch = branch.children.setdefault(token, Branch())
        branch.ends.append(number)
    edges = EdgeNumbers()
    firsts = {key: edges.add(key[1], NONE, branch) for key, branch in roots.items()}
    nodes = {firsts[key]: [*edges.add_below(firsts[key], root)] for key, root in roots.items()}
    subtrees = {first: (*parts_of(edges, below),) for first, below in nodes.items() if below}
    levels = [
        [edge for edge, depth in enumerate(edges.depths) if depth == level]
        for level in range(2, max(edges.depths) + 1)
    ]

    def tensor(numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=device)

    ends = [edges.ends[text] for text in range(len(texts))]
    parts = grouped(chain.from_iterable(subtrees.values()))
    passes = (joined(group).to(device) for group in parts)
    return TokenTrie(
        leads=tensor([lead for lead, _ in roots]),
        tokens=tensor(edges.tokens),
        parents=tensor(edges.parents),
        levels=tuple(map(tensor, levels)),
        first=tensor([firsts[lead, text[0]] for text, lead in zip(texts, leads, strict=True)]),
        last=tensor(ends),
        subtrees=subtrees,
        passes=tuple(passes),
    )


def parts_of(edges: EdgeNumbers, nodes: Sequence[int]) -> Iterator[NodePass]:
    """Yield the nodes below a first edge, given by the edges that lead to them.

    A part begins with the nodes that its other nodes follow, which an earlier part has as well.
    """
    above = 0
    part: list[int] = []
    for node in nodes:
        if len(part) - above >= NODES_OF_A_PASS:
            yield part_of(edges, part, above)
            part = edges.above(node)
            above = len(part)
        part.append(node)
    yield part_of(edges, part, above)


def part_of(edges: EdgeNumbers, nodes: Sequence[int], above: int) -> NodePass:
    """Return nodes as a pass. An earlier part has the edges that follow the first `above` ones."""
    place = {edge: number for number, edge in enumerate(nodes)}
    ancestors = torch.eye(len(nodes), dtype=torch.bool)
    for number, edge in enumerate(nodes[1:], start=1):  # a node comes after the one before it
        ancestors[number] |= ancestors[place[edges.parents[edge]]]
    following = [child for edge in nodes[above:] for child in edges.children[edge]]
    return NodePass(
        tokens=torch.tensor([edges.tokens[edge] for edge in nodes]),
        depths=torch.tensor([edges.depths[edge] for edge in nodes]),
        firsts=torch.full((len(nodes),), nodes[0]),
        ancestors=ancestors,
        edges=torch.tensor(following),
        sources=torch.tensor([place[edges.parents[edge]] for edge in following]),
    )


def grouped(parts: Iterable[NodePass]) -> Iterator[list[NodePass]]:
    """Yield parts of subtrees in groups of at most `NODES_OF_A_PASS` nodes, or of one part."""
    group: list[NodePass] = []
    nodes = 0
    for part in parts:
        if group and nodes + len(part.tokens) > NODES_OF_A_PASS:
            yield group
            group, nodes = [], 0
        group.append(part)
        nodes += len(part.tokens)
    if group:
        yield group


def joined(subtrees: Sequence[NodePass]) -> NodePass:
    """Return parts of subtrees as one pass."""
    begins = [0]
    for subtree in subtrees:
        begins.append(begins[-1] + len(subtree.tokens))
    ancestors = torch.zeros(begins[-1], begins[-1], dtype=torch.bool)
    for begin, end, subtree in zip(begins, begins[1:], subtrees, strict=False):
        ancestors[begin:end, begin:end] = subtree.ancestors
    return NodePass(
        tokens=torch.cat([subtree.tokens for subtree in subtrees]),
        depths=torch.cat([subtree.depths for subtree in subtrees]),
        firsts=torch.cat([subtree.firsts for subtree in subtrees]),
        ancestors=ancestors,
        edges=torch.cat([subtree.edges for subtree in subtrees]),
        sources=torch.cat(
            [tree.sources + begin for tree, begin in zip(subtrees, begins, strict=False)]
        ),
    )
