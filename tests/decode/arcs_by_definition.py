"""What the arcs of a node weigh, as the papers that they are from define it."""

from torch import Tensor
from torch.nn.functional import logsigmoid

from asr.arcs.base import ArcSet
from asr.arcs.hat import hat_arcs
from asr.arcs.multi_blank import multi_blank_arcs
from asr.arcs.standard import standard_arcs
from asr.arcs.tdt import tdt_arcs

DURATIONS, BIG_BLANKS = [0, 1, 2, 4], [2, 3]
KINDS = [f"{name}{topology}" for name in ("standard", "tdt", "multi_blank", "hat") for topology in ("", " modified")]


def arcs_of(kind: str, vocab_size: int) -> tuple[ArcSet, int]:
    """The arcs, and the outputs of the joiner beyond the vocabulary."""
    name, _, topology = kind.partition(" ")
    if name == "tdt":
        return tdt_arcs(topology or "regular", vocab_size, DURATIONS), len(DURATIONS)
    if name == "multi_blank":
        return multi_blank_arcs(topology or "regular", vocab_size, BIG_BLANKS), len(BIG_BLANKS)
    return {"standard": standard_arcs, "hat": hat_arcs}[name](topology or "regular", vocab_size), 0


def arcs_of_node(kind: str, z: Tensor) -> dict[tuple[int, int], float]:
    """Log-probability of every (token, frames to go on), from a node's outputs (K,)."""
    name, step = kind.partition(" ")[0], int(kind.endswith("modified"))
    vocab_size = len(z) - {"tdt": len(DURATIONS), "multi_blank": len(BIG_BLANKS)}.get(name, 0)
    if name == "tdt":
        tokens, durations = z[:vocab_size].log_softmax(0).tolist(), z[vocab_size:].log_softmax(0).tolist()
        pairs = ((k, i, d) for k in range(vocab_size) for i, d in enumerate(DURATIONS) if d >= (step if k else 1))
        return {(k, d): tokens[k] + durations[i] for k, i, d in pairs}
    if name == "hat":
        labels = (logsigmoid(-z[0]) + z[1:].log_softmax(0)).tolist()
        return {(0, 1): float(logsigmoid(z[0])), **{(k + 1, step): labels[k] for k in range(vocab_size - 1)}}
    log_probs = z.log_softmax(0).tolist()
    labels = {(k, step): log_probs[k] for k in range(1, vocab_size)}
    return {(0, 1): log_probs[0], **labels, **{(0, m): big for m, big in zip(BIG_BLANKS, log_probs[vocab_size:])}}
