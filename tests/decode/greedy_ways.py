"""Greedy search as it goes on a GPU, for a CPU."""

from waits import recorded

from asr.decode.greedy import GreedySearch
from asr.decode.greedy_graph import Graphs


class InSteps(GreedySearch):
    """Looks whether there are frames left only after all steps."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.looks = False


class Graphed(InSteps):
    """Does what was recorded of the steps, where there are no scorers."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.graphs = None if self.scorer.scorers else Graphs(recorded, after=0)
