"""`python -m lrfr_jax.demo`: a page on this machine where two faces are compared from 112 to 7 px.

python -m lrfr_jax.demo --checkpoint runs/maug
python -m lrfr_jax.demo --checkpoint runs/none --checkpoint runs/maug     two models side by side

Open the address that it prints. Drop two faces, or take generated ones, and move the slider. Only this machine can
reach the page, and nothing is stored. Ctrl-C ends it.
"""

import argparse
from collections.abc import Sequence

from lrfr_jax.demo import comparison, server
from lrfr_jax.errors import UserError, one_sentence
from lrfr_jax.evals.fusion import FUSIONS
from lrfr_jax.pictures.faces import resized
from lrfr_jax.terminal import progress
from lrfr_jax.trained import model_options
from lrfr_jax.trained.model import find_model

MOST_MODELS = 2


def main(argv: Sequence[str] | None = None) -> None:
    """Serves the page until it is interrupted; exits with 1 on bad input."""
    options = _parser().parse_args(argv)
    with one_sentence():
        if len(options.checkpoint) > MOST_MODELS:
            raise UserError(f"--checkpoint was given {len(options.checkpoint)} times: the page compares {MOST_MODELS}")
        asked = {"fusion": options.fusion, "far": options.far, "calibrated_on": options.calibrated_on}
        for path in options.checkpoint:
            find_model(path)
        models: list[comparison.Model] = []
        # Before the models are loaded, so that a port that is taken is told at once.
        with server.create_server(models, port=options.port) as running:
            with progress.waiting(f"loading {' and '.join(options.checkpoint)}"):
                models += [comparison.load(path, **asked) for path in options.checkpoint]
            _compile(models)
            print(f"http://{server.HOST}:{running.server_address[1]}/", flush=True)
            try:
                running.serve_forever()
            except KeyboardInterrupt:
                print("ended")


def _compile(models: Sequence[comparison.Model]) -> None:
    """Makes the first comparison, which compiles, and would keep the page waiting."""
    generated = [comparison.generated(0, image) for image in range(2)]
    with progress.waiting("compiling"):
        comparison.compare(generated, models, make_face=resized)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lrfr_jax.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", action="append", required=True, help="a run's folder, a checkpoint, or a file of `export`")
    default = f"(default {model_options.CARDS_FUSION})"
    add("--fusion", choices=sorted(FUSIONS), help=f"how an image and its mirror image become one vector {default}")
    add("--far", type=float, metavar="F", help="false accept rate of the decisions, one that was calibrated")
    model_options.add_calibrated_on(parser)
    add("--port", type=int, default=8112, help="of this machine; 0 takes a free one (default 8112)")
    return parser


if __name__ == "__main__":
    main()
