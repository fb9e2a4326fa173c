"""Every loss with every set of arcs, and what the papers say of these: the sums over paths, one by one."""

import math

import torch
from lattice_paths import edge_paths, moved_paths

from asr.losses import make
from asr.models.joiner import Joiner

V, DIM = 5, 4
ARCS = {
    "standard": {"name": "standard"},
    "hat": {"name": "hat"},
    "multi_blank": {"name": "multi_blank", "big_blanks": [4, 2]},
    "no big blanks": {"name": "multi_blank", "big_blanks": []},
    "tdt": {"name": "tdt", "durations": [0, 1, 2, 3, 4]},
    "tdt, no 0": {"name": "tdt", "durations": [3, 1, 2]},
}
CASES = [
    (arcs, topology)
    for arcs in ARCS
    for topology in ("regular", "modified", "constrained")
    if not (arcs.startswith("tdt") and topology == "constrained")
]
NODES = {  # one of each node set, all and few of its nodes
    "full": {},
    "optimized": {},
    "ar": {"left_frames": 0, "right_frames": 1},
    "pruned": {"prune_range": 2, "simple_scale": 0.0, "warmup_batches": 0},
    "pruned by alignment": {"prune_range": 2, "bounds": "alignment"},
}


def extra_outputs(arcs):
    return len(arcs.get("big_blanks", arcs.get("durations", [])))


def make_loss(nodes, arcs, topology="regular", **options):
    torch.manual_seed(3)
    sizes = {"vocab_size": V, "encoder_dim": DIM, "predictor_dim": DIM}
    options = {**NODES.get(nodes, {}), **options}
    return make(nodes.split()[0], **sizes, arcs=arcs, topology=topology, **options).double().eval()


def make_joiner(arcs, seed=1):
    torch.manual_seed(seed)
    joiner = Joiner(DIM, V + extra_outputs(arcs)).double()
    torch.nn.init.normal_(joiner.output.weight)
    return joiner


def written_out(arcs, topology, sigma=0.0):
    """(Δt, Δu, log-weight) of each arc: where it leads, and its probability from a node's logits z and next label y."""
    step = 0 if topology == "regular" else 1
    if arcs["name"] == "tdt":
        durations = arcs["durations"]

        def token_and_duration(i, is_label):
            return lambda z, y: z[:V].log_softmax(0)[y if is_label else 0] + z[V:].log_softmax(0)[i] - sigma

        blanks = [(d, 0, token_and_duration(i, False)) for i, d in enumerate(durations) if d > 0]
        return blanks + [(d, 1, token_and_duration(i, True)) for i, d in enumerate(durations) if d >= step]
    if arcs["name"] == "hat":

        def label(z, y):
            return (1 - z[0].sigmoid()).log() + z[1:].softmax(0)[y - 1].log()

        return [(1, 0, lambda z, y: z[0].sigmoid().log()), (step, 1, label)]
    big = [(m, 0, lambda z, y, i=i: z.log_softmax(0)[V + i] - sigma) for i, m in enumerate(arcs.get("big_blanks", []))]
    blank_and_label = [
        (1, 0, lambda z, y: z.log_softmax(0)[0] - sigma),
        (step, 1, lambda z, y: z.log_softmax(0)[y] - sigma),
    ]
    return blank_and_label + big


def path_sums(
    arcs, topology, joiner, batch, nodes=None, fastemit=0.0, delay_penalty=0.0, sigma=0.0, edges=None, added=None
):
    """−log P of each utterance, over the paths all of whose nodes are in the set (b,t,u).

    added: of each utterance what is added to the weights (A,T_b,U_b+1) that the joiner gives.
    """
    kinds = written_out(arcs, topology, sigma)
    losses = []
    for b, (frames, labels) in enumerate(zip(batch["encoder_frames"].tolist(), batch["label_lengths"].tolist())):
        z = joiner(batch["encoder_out"][b, :frames, None], batch["predictor_out"][b, None, : labels + 1])
        y = batch["labels"][b].tolist()
        flat = [
            kind[2](z[t, u], y[u] if u < labels else 0) if u < labels or not kind[1] else z.new_tensor(-math.inf)
            for kind in kinds
            for t in range(frames)
            for u in range(labels + 1)
        ]
        given = torch.stack(flat).view(len(kinds), frames, labels + 1)
        blank, label, *others = given if added is None else given + added[b]
        is_label = [kind[1] == 1 for kind in kinds]
        weights = [blank, label, *others]
        early = ((frames - 1) / 2 - torch.arange(frames).double())[:, None]
        for k in range(len(kinds)):
            if is_label[k]:
                weights[k] = weights[k] + delay_penalty * early
                weights[k] = (1 + fastemit) * weights[k] - fastemit * weights[k].detach()
        if topology == "constrained":  # by the forced blank of the node above
            weights[1] = weights[1][:, :-1] + weights[0][:, 1:]
            weights[1] = torch.nn.functional.pad(weights[1], (0, 1), value=-math.inf)
        chosen, prices = [], []
        moves = tuple(kind[:2] for kind in kinds)
        every = edge_paths(frames, labels, moves)
        if edges is None:
            every = ((0, path, 0) for path in moved_paths(frames, labels, moves))
        for before, path, after in every:
            passed = [(t, u) for _, t, u in path] + [(before, 0)]
            passed += [(frames - after, labels)] if after else []
            if topology == "constrained":
                passed += [(t, u + 1) for k, t, u in path if is_label[k]]
            if nodes is None or all((b, t, u) in nodes for t, u in passed):
                chosen.append([(k * frames + t) * (labels + 1) + u for k, t, u in path])
                prices.append((edges or 0.0) * (before + after))
        longest = max(map(len, chosen))
        values = torch.cat([torch.stack(weights).flatten(), z.new_zeros(1)])
        index = torch.tensor([path + [len(values) - 1] * (longest - len(path)) for path in chosen])
        losses.append(-(values[index].sum(1) - torch.tensor(prices, dtype=torch.float64)).logsumexp(0))
    return torch.stack(losses)


def with_gradients(per_utterance, joiner, batch):
    """Losses, and gradients of a weighted sum of them."""
    weights = per_utterance.new_tensor([1.0, 3.0, -0.5, 2.0, 1.5, -1.0][: len(per_utterance)])
    leaves = [batch["encoder_out"], batch["predictor_out"], *joiner.parameters()]
    return [per_utterance, *torch.autograd.grad((per_utterance * weights).sum(), leaves)]


def chosen_nodes(loss, batch, views=1):
    """The nodes (b,t,u) that a loss is computed on; views: of each utterance, which have the same."""
    lengths = batch["encoder_frames"], batch["label_lengths"]
    if loss.options.name in ("full", "optimized"):
        return None
    if loss.options.uses_alignment:
        nodes, _ = loss.choose_nodes(*lengths, batch["alignment"])
    else:
        inputs = type("Inputs", (), {**batch, "joiner": None})
        occupation = loss.simple_loss(inputs)[1]
        pooled = occupation.unflatten(0, (views, -1)).mean(0).repeat(views, 1, 1)
        nodes, _ = loss.choose_nodes(inputs, pooled)
    return set(zip(*(axis.tolist() for axis in nodes.coordinates())))
