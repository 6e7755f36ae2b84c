"""Several checkpoints on verification sets, at any resolutions, by published protocols: what three figures show."""

import os
import pathlib
from argparse import Namespace
from collections.abc import Callable, Sequence

import numpy as np

from lrfr_jax.analysis.figures import models_and_faces, option_types
from lrfr_jax.analysis.figures.models_and_faces import Model
from lrfr_jax.checkpoints import checkpoint
from lrfr_jax.data import face_sets
from lrfr_jax.errors import UserError
from lrfr_jax.evals import evaluation, protocols, report
from lrfr_jax.evals.embedding_cache import EmbeddingCache
from lrfr_jax.evals.evaluation import SetResult
from lrfr_jax.evals.fusion import FUSIONS
from lrfr_jax.evals.verification import Comparison
from lrfr_jax.files import paths
from lrfr_jax.image_ops import IMAGE_SIZE
from lrfr_jax.terminal import comma_list

MODES = ("hr_lr", "lr_lr")


def add_arguments(add: Callable, *, mode: str) -> None:
    """Declares the options of how pairs are compared."""
    add("--mode", choices=MODES, default=mode, help="reduce one image of a pair or both (default %(default)s)")
    named = [name for name, rules in protocols.PROTOCOLS.items() if isinstance(rules, protocols.VerificationRules)]
    add("--protocol", choices=named, help="published rules, see docs/protocols.md; default: the set's own")
    add("--fusion", choices=sorted(FUSIONS), help="how an image and its mirror image become one vector")
    add("--embeddings", metavar="DIR", help="where features are kept; default: W/embeddings of each run W")


def evaluate_models(
    arguments: Namespace, *, sets: Sequence[str], resolutions: tuple[int, ...]
) -> tuple[list[Model], dict[str, list[SetResult]]]:
    """Evaluates all models on verification sets, as `lrfr_jax.evaluate` does, sharing the features that it keeps.

    Args:
      arguments: with the options of `add_arguments` and `models_and_faces.add_models`.

    Returns:
      (the models, {set: the result of each}).

    Raises:
      UserError: a set is missing or of another kind, or cannot be scored.
    """
    settings = {"resolutions": resolutions, "comparisons": (arguments.mode,)}
    settings |= {key: getattr(arguments, key) for key in ("protocol", "fusion") if getattr(arguments, key)}
    for name in sets:
        kind = face_sets.open_test_set(arguments.data_dir, name).kind
        if kind != "verification":
            raise UserError(f"{name} is a set for {kind}, this figure needs pairs: name a verification set")
    planned = evaluation.plan(arguments.data_dir, {name: dict(settings) for name in sets})
    if arguments.embeddings:
        paths.check_folder(pathlib.Path(arguments.embeddings), flag="--embeddings")
    models = models_and_faces.load_models(arguments.checkpoints, arguments.labels)
    results: dict[str, list[SetResult]] = {name: [] for name in sets}
    for model in models:
        folder = arguments.embeddings or (model.workdir and model.workdir / "embeddings")
        description = dict(model.metadata["model"]) | {"rounding": model.rounding}
        made = evaluation.run(
            planned,
            models_and_faces.embedder_of(model, evaluation.sizes_of(planned), mirror=evaluation.needs_mirror(planned)),
            model.variables,
            rounding=model.rounding,
            batch_size=arguments.batch_size,
            num_threads=os.cpu_count() or 1,
            cache=EmbeddingCache(folder, checkpoint.model_digest(model.variables, description)) if folder else None,
        )
        for name, result in made.items():
            results[name].append(result)
    return models, results


def comparison_at(result: SetResult, mode: str, resolution: int) -> Comparison:
    """Returns the comparison at a resolution; at the full one both modes are HR-HR."""
    mode = "hr_hr" if resolution == IMAGE_SIZE else mode
    return next(c for c in result.outcome.comparisons if (c.mode, c.resolution) == (mode, resolution))


def set_title(result: SetResult) -> str:
    """The set's name, which tells whether it lacks the official counts."""
    test_set = result.evaluation.test_set
    return report.full_name(test_set.name, {"is_partial": test_set.is_partial})


def cosines_by_set(
    arguments: Namespace,
) -> tuple[dict[str, dict[str, tuple[np.ndarray, np.ndarray]]], dict[str, np.ndarray]]:
    """Compares pairs as the command line says.

    Returns:
      ({title of set and resolution: {label of the model: (cosine similarities, is_same)}}, the same as flat arrays).

    Raises:
      UserError: there is no set or no model, or as `evaluate_models` does.
    """
    sets = comma_list.some_words(arguments.sets, "--sets")
    models, results = evaluate_models(arguments, sets=sets, resolutions=arguments.resolutions)
    panels, data = {}, {"labels": np.array([model.label for model in models])}
    for name, per_model in results.items():
        is_same = per_model[0].outcome.is_same
        data[f"{name}/is_same"] = is_same
        for resolution in arguments.resolutions:
            cosines = [comparison_at(result, arguments.mode, resolution).cosines for result in per_model]
            mode = "" if resolution == IMAGE_SIZE else f"{report.MODE_TITLES[arguments.mode]} "
            title = f"{set_title(per_model[0])}, {mode}{resolution} px"
            panels[title] = {m.label: (similarity, is_same) for m, similarity in zip(models, cosines, strict=True)}
            data[f"{name}/{arguments.mode}_{resolution}/cosines"] = np.stack(cosines)
    return panels, data


def add_sets(add: Callable) -> None:
    """Declares which sets and resolutions `cosines_by_set` compares."""
    add("--sets", "--set", required=True, metavar="A,B", help="verification sets")
    add(
        "--resolutions",
        type=option_types.resolutions,
        default=(IMAGE_SIZE,),
        metavar="R,R",
        help=f"side lengths in pixels; {IMAGE_SIZE}, the default, leaves the images as they are",
    )
