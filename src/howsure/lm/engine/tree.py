"""Which tokens are read, once each: sequences that begin alike share a beginning. No torch in here.

The beginnings that several sequences may share (the examples before every question of a subject,
the question before every option) form a compressed trie; each sequence's own tokens hang from it as
a leaf. Fixed examples make one shared node, examples shuffled per question a tree of them. The
order of reading is the tree's preorder, so that the descendants of a node are neighbours.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, final, overload

MIN_SHARED = 16
"""Tokens that two stems must share before a node is split for it: a shorter one costs more calls
than it saves reading. Whole nodes are always shared."""


@final
class Branch(Sequence[int]):
    """Token ids that begin as others do: the first `shared` ones of `stem`, which is held once for
    all of them, then those of its own. Neither array may change afterwards."""

    __slots__ = ("_own", "_shared", "_stem")

    def __init__(self, stem: array[int], shared: int, own: array[int]) -> None:
        self._stem, self._shared, self._own = stem, shared, own

    def __len__(self) -> int:
        return self._shared + len(self._own)

    def __iter__(self) -> Iterator[int]:
        return iter(self[:])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Branch) and self[:] == other[:]

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> array[int]: ...
    def __getitem__(self, at: int | slice) -> int | array[int]:
        if isinstance(at, slice):
            return (self._stem[: self._shared] + self._own)[at]
        place = range(len(self))[at]
        return self._stem[place] if place < self._shared else self._own[place - self._shared]


@dataclass(frozen=True, slots=True)
class Ask:
    """One sequence of token ids, and the positions in it (ascending) whose rows are wanted."""

    ids: Sequence[int]
    at: tuple[int, ...]
    stem: int = 0
    """How many of its first tokens other sequences are likely to begin with too."""


@dataclass(eq=False, slots=True)
class Node:
    """A run of tokens, read once, whoever continues it.

    `start` is the position of its first token in every sequence that it is part of. A child may
    attach anywhere inside its parent: it sees only the parent's tokens before its own `start`.
    """

    ids: Sequence[int]
    start: int
    parent: Node | None = None
    ask: int | None = None
    """The ask that ends here; None for a shared beginning."""
    children: list[Node] = field(default_factory=list)
    order: int = 0
    """Its place in the order of reading, and that of its last descendant."""
    last: int = 0
    wanted: set[int] = field(default_factory=set)
    """Positions inside it whose rows somebody wants."""
    memory: Any = None
    """Keys and values, as long as somebody continues it; see `parts.Memory`."""
    rows: Any = None
    """What was read at the wanted positions: layer → (wanted, hidden size)."""

    @property
    def stop(self) -> int:
        return self.start + len(self.ids)

    def path(self) -> Iterator[tuple[Node, int]]:
        """(node, how many of its tokens this node's end sees): itself, then each ancestor."""
        node, seen = self, len(self.ids)
        while True:
            yield node, seen
            if node.parent is None:
                return
            seen = node.start - node.parent.start
            node = node.parent

    def want(self, positions: Sequence[int]) -> None:
        """Mark the rows at these positions of the sequence that ends here."""
        for node, seen in self.path():
            node.wanted.update(p for p in positions if node.start <= p < node.start + seen)

    def at(self, position: int) -> Node:
        """The node on the path to here that holds a position."""
        return next(n for n, seen in self.path() if n.start <= position < n.start + seen)


def grow(asks: Sequence[Ask]) -> list[Node]:
    """The tree of all asks, in preorder. Each ask has a leaf with at least one token of its own."""
    root = Node((), 0)
    leaves: dict[Node, list[Node]] = {}
    for i, ask in enumerate(asks):
        stem = min(ask.stem, len(ask.ids) - 1)
        home = _insert(root, list(ask.ids[:stem]))
        leaves.setdefault(home, []).append(Node(ask.ids[stem:], stem, home, ask=i))
    for home, own in leaves.items():
        if home is not root and not home.children and len(own) > 1:
            _lengthen(home, own)
    for home, own in leaves.items():
        home.children += own
    for child in root.children:
        child.parent = None
    nodes = _preorder(root)
    for node in nodes:
        node.children = []  # used no more, and a circle of references keeps a tree in memory
        if node.ask is not None:
            node.want(asks[node.ask].at)
    return nodes


def packs(nodes: Sequence[Node], budget: Callable[[], int]) -> Iterator[list[Node]]:
    """Neighbouring nodes of at most `budget()` tokens together; a longer node comes alone.

    The budget is asked for anew each time: it may change while packs are read.
    """
    pack: list[Node] = []
    tokens = 0
    for node in nodes:
        if pack and tokens + len(node.ids) > budget():
            yield pack
            pack, tokens = [], 0
        pack.append(node)
        tokens += len(node.ids)
    if pack:
        yield pack


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    most = min(len(a), len(b))
    x, y = a[:most], b[:most]
    if x == y if type(x) is type(y) else list(x) == list(y):
        return most
    return next(n for n in range(most) if a[n] != b[n])


def _insert(root: Node, ids: list[int]) -> Node:
    """The trie's node that ends where `ids` ends; what is in the way is split."""
    here, at = root, 0
    while at < len(ids):
        shares = ((common_prefix(c.ids, ids[at:]), c) for c in here.children if c.ids[0] == ids[at])
        common, child = max(shares, key=lambda s: s[0], default=(0, None))
        if child is None or common < min(MIN_SHARED, len(child.ids)):
            made = Node(ids[at:], at, here)
            here.children.append(made)
            return made
        here = child if common == len(child.ids) else _split(here, child, common)
        at += common
    return here


def _split(parent: Node, node: Node, at: int) -> Node:
    """A new node takes the first `at` tokens of a child; the child, with all that hangs from it,
    keeps the others."""
    head = Node(node.ids[:at], node.start, parent, children=[node])
    parent.children[parent.children.index(node)] = head
    node.ids, node.start, node.parent = node.ids[at:], node.start + at, head
    return head


def _lengthen(home: Node, leaves: list[Node]) -> None:
    """Move what all leaves begin with into the node before them; each keeps a token of its own."""
    low, high = (f(list(leaf.ids) for leaf in leaves) for f in (min, max))
    more = min(common_prefix(low, high), *(len(leaf.ids) - 1 for leaf in leaves))
    home.ids = [*home.ids, *leaves[0].ids[:more]]
    for leaf in leaves:
        leaf.ids, leaf.start = leaf.ids[more:], leaf.start + more


def _preorder(root: Node) -> list[Node]:
    """All nodes below the root; of siblings the leaves first and by length, so that neighbours of
    one length can be attended to together."""
    out: list[Node] = []
    waiting = _ordered(root.children)[::-1]
    while waiting:
        node = waiting.pop()
        node.order = node.last = len(out)
        out.append(node)
        waiting += _ordered(node.children)[::-1]
    for node in reversed(out):
        if node.parent is not None:
            node.parent.last = max(node.parent.last, node.last)
    return out


def _ordered(nodes: Sequence[Node]) -> list[Node]:
    return sorted(nodes, key=lambda n: (n.ask is None, len(n.ids) if n.ask is not None else 0))


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring segments of one length: rows [row, row + count × length) of a pack."""

    row: int
    count: int
    length: int


@dataclass(frozen=True, slots=True)
class Span:
    """Rows [row, end) of a pack all see the first `seen` tokens of `node`."""

    row: int
    end: int
    node: Node
    seen: int


def runs(pack: Sequence[Node]) -> list[Run]:
    """The pack's segments, in order, joined where neighbours have the same length."""
    out, row = [], 0
    for length, same in groupby(pack, key=lambda n: len(n.ids)):
        count = len(list(same))
        out.append(Run(row, count, length))
        row += count * length
    return out


def spans(pack: Sequence[Node]) -> list[Span]:
    """Which rows see which ancestors' tokens; neighbours that see the same are joined."""
    out: list[Span] = []
    newest: dict[Node, int] = {}
    row = 0
    for node in pack:
        end = row + len(node.ids)
        for ancestor, seen in list(node.path())[1:]:
            k = newest.get(ancestor)
            if k is not None and out[k].end == row and out[k].seen == seen:
                out[k] = Span(out[k].row, end, ancestor, seen)
            else:
                newest[ancestor] = len(out)
                out.append(Span(row, end, ancestor, seen))
        row = end
    return out
