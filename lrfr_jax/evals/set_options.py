"""The options of a command line that replace settings of the test sets' protocols."""

import argparse
from collections.abc import Callable

from lrfr_jax.evals import pooling, protocols
from lrfr_jax.evals.centering import CENTERINGS
from lrfr_jax.evals.fusion import FUSIONS
from lrfr_jax.evals.scores import SCORES
from lrfr_jax.terminal import comma_list

# Options that replace a setting of the same name, in those sets whose kind has it.
SETTINGS = ("protocol", "resolutions", "fusion", "fars", "fpirs", "ranks", "split", "mean_average_precision")
SETTINGS += ("comparisons", "size_lists", "ssim", "weights", "use_faceness", "score", "qmag", "centering")


def add(parser: argparse.ArgumentParser) -> None:
    """The options of SETTINGS; the default of each is the run's own setting, or that of the set's own protocol."""
    option = parser.add_argument_group("settings", "each replaces the run's own in the sets that have it").add_argument
    option("--protocol", choices=sorted(protocols.PROTOCOLS), help="published rules, see docs/protocols.md")
    option(
        "--resolutions",
        type=list_of(int),
        metavar="R,R",
        help="side lengths in pixels to reduce to (of identification sets the probes); the full one is always added",
    )
    option("--fusion", choices=sorted(FUSIONS), help="how the features of an image and of its mirror image become one")
    option(
        "--score", choices=sorted(SCORES), help="of two faces: the cosine, or QMagFace's, which takes their quality in"
    )
    option(
        "--qmag",
        type=list_of(float),
        metavar="ALPHA,BETA",
        help="constants of --score qmag; default: those that --fit_qmag found for the model, else those of MagFace's "
        "network of the same name",
    )
    option(
        "--centering",
        choices=CENTERINGS,
        help="per_resolution takes the mean embedding of each resolution away: in folds of pairs that of the other "
        "folds, elsewhere that of the model's last --calibrate",
    )
    option("--fars", type=list_of(float), metavar="F,F", help="false accept rates of TAR@FAR")
    option("--fpirs", type=list_of(float), metavar="F,F", help="false positive identification rates of TPIR@FPIR")
    option("--ranks", type=list_of(int), metavar="K,K", help="ranks of identification")
    option("--split", metavar="NAME", help="identification: 'all', or a list of test identities that the set holds")
    option(
        "--comparisons",
        type=list_of(str),
        metavar="C,C",
        help=f"verification: which images are reduced, of {', '.join(protocols.COMPARISONS)}",
    )
    option(
        "--size_lists",
        type=list_of(str),
        metavar="L,L",
        help="verification: size lists of the set (--sizes of prepare)",
    )
    either = argparse.BooleanOptionalAction
    option("--ssim", action=either, help="verification: structural similarity of reduced images")
    option("--mean_average_precision", action=either, help="identification: mAP as well")
    option("--weights", choices=pooling.WEIGHTS, help="templates: whether the length of a feature is its weight")
    option("--use_faceness", action=either, help="templates: whether the detector's score weighs an image")


def list_of(kind: type) -> Callable[[str], tuple]:
    """The type of an option that takes values separated by commas."""

    def parse(text: str) -> tuple:
        return tuple(map(kind, comma_list.some_words(text, "the list")))

    parse.__name__ = f"comma-separated {kind.__name__}"
    return parse
