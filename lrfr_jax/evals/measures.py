"""One measured number, with all that a reader needs to judge it."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Measure:
    """A rate in [0, 1].

    Attributes:
      name: the metric with its numbers written in full: 'rank1', 'map', 'tpir20@fpir=0.1'.
      group: which probes (such as 'd1'); '' for all.
      resolution: side length in pixels of the probes' images.
      value: the rate; over several folds or splits their mean.
      interval: 95 % interval of the value, see the function that made it.
      parts: the value in each fold or split; empty if there is but one.
      trials: how many decisions it rests on.
    """

    name: str
    group: str
    resolution: int
    value: float
    interval: tuple[float, float]
    parts: tuple[float, ...]
    trials: int

    @property
    def std(self) -> float:
        """Standard deviation over the folds or splits; 0 for one."""
        mean = sum(self.parts) / max(len(self.parts), 1)
        return (sum((part - mean) ** 2 for part in self.parts) / max(len(self.parts), 1)) ** 0.5


def in_full(rate: float) -> str:
    """Writes a rate as the names of metrics hold it: 0.0001, not 1e-04."""
    return np.format_float_positional(rate, trim="-")
