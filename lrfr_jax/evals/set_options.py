"""The options of a command line that replace settings of the test sets' protocols."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from lrfr_jax.data import face_sets
from lrfr_jax.errors import UserError
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


def evals_of(configured: Mapping[str, Mapping[str, Any]], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Returns what `evaluation.plan` takes: the run's own settings, changed by the options given.

    A set that the run does not know gets the settings of its own protocol. An option counts for the sets whose kind has
    such a setting.

    Raises:
      UserError: there is no set to evaluate, or an option is for none of them.
    """
    changes = {key: getattr(options, key) for key in SETTINGS if getattr(options, key) is not None}
    names = options.sets or list(configured)
    if not names and options.fit_qmag:
        return {}
    if not names:
        raise UserError("this model names no test sets: choose some with --sets")
    kinds = {name: face_sets.open_test_set(options.data_dir, name).kind for name in names}
    taken = {name: _fitting(changes, kind) for name, kind in kinds.items()}
    for key in changes:
        if not any(key in fitting for fitting in taken.values()):
            listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
            raise UserError(f"--{key} {changes[key]} fits none of the sets {listed}: see --help for what it is about")
    return {name: {**configured.get(name, {}), **taken[name]} for name in names}


def _fitting(changes: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """The changes that a set of this kind can take; a protocol only if it is one for this kind."""
    keys = protocols.settings_of(kind)
    fitting = {key: value for key, value in changes.items() if key in keys}
    if "protocol" in fitting and not isinstance(protocols.PROTOCOLS[fitting["protocol"]], protocols.KIND_RULES[kind]):
        del fitting["protocol"]
    return fitting


def list_of(kind: type) -> Callable[[str], tuple]:
    """The type of an option that takes values separated by commas."""

    def parse(text: str) -> tuple:
        return tuple(map(kind, comma_list.some_words(text, "the list")))

    parse.__name__ = f"comma-separated {kind.__name__}"
    return parse
