"""A head: what a classification loss makes of the cosines between a feature and the class centers."""

import dataclasses
from collections.abc import Callable, Mapping

Number = float | int

# What the others are added up to, see `Head`.
SUMS = ("softmax", "rival", "sigmoid", "nearest")
# What the class centers are divided by: the length of each row, nothing, or (a number) the length of each of K groups.
NORMALIZATIONS = ("rows", "none")
# What is added to the logits: nothing, one learned number per identity, or one for all.
BIASES = ("none", "per_identity", "shared")


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    r"""One classification loss, with all its numbers bound. Functions of arrays work element by element unless said.

    With c_y the cosine to the own center, c_j those to the others, a the feature's length, b the bias (0 without one):

    .. math::
        z_y &= \mathrm{own}(c_y, a, draws, state) + b_y, \quad z_j = s\,\mathrm{others}(c_j) + b_j \\
        \text{softmax}:&\ -z_y + \log(e^{z_y} + \textstyle\sum_{j \ne y} e^{z_j}) \\
        \text{rival}:&\ \text{as softmax, with } s\,\mathrm{rival}(c_r) \text{ for the nearest other, } r \\
        \text{sigmoid}:&\ \log(1 + e^{-z_y}) + w \textstyle\sum_{j \ne y} \log(1 + e^{z_j}) \\
        \text{nearest}:&\ \mathrm{hinge}(c_y, \text{the } k \text{ highest } c_j)

    plus the norm term of a. With `normalize='none'` the c are plain products instead of cosines.
    With 'nearest', `own` and `scale` play no part. The state is updated before anything else of a step reads it.

    Attributes:
      scale: s, of the others; `own` brings its own.
      own: (cosines, norms, draws, state) -> z_y without the bias.
      sum: one of `SUMS`.
      others: (cosines, bar, state) -> cosines, or None where they stay as they are. No gradient goes to bar and state.
      bar: (cosines, norms, draws, state) -> one number per feature for `others`.
      rival: cosines -> cosines.
      num_nearest: k.
      hinge: (own cosines, nearest cosines [..., k] in falling order) -> losses.
      negative_weight: w.
      norm_term: norms -> what is added to each loss, or None.
      draw: (rng, shape) -> random numbers for `own`, one per feature, or None.
      first_state: name -> number; empty for a head without a state.
      update: (state, own cosines, norms) -> the next state, from all features of the batch; used in the same step.
      normalize: one of `NORMALIZATIONS`, or the number K of groups of dimensions.
      bias: one of `BIASES`.
      first_bias: number of identities that take part -> the first value of the bias.
      logits_of_all: (cosines [..., identities], labels [...]) -> logits, for a loss that needs the whole row; the rest
        is a softmax then, and neither chunks, shards nor a sample are possible.
    """

    scale: Number
    own: Callable
    sum: str = "softmax"
    others: Callable | None = None
    bar: Callable | None = None
    rival: Callable | None = None
    num_nearest: int = 0
    hinge: Callable | None = None
    negative_weight: Number = 1
    norm_term: Callable | None = None
    draw: Callable | None = None
    first_state: Mapping[str, float] = dataclasses.field(default_factory=dict)
    update: Callable | None = None
    normalize: str | int = "rows"
    bias: str = "none"
    first_bias: Callable = lambda identities: 0.0
    logits_of_all: Callable | None = None
