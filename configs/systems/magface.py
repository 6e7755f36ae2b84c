"""MagFace, Mag-CosFace and the training of QMagFace (Meng et al. 2021, Terhoerst et al. 2021; Table 3).

Command:
  python -m lrfr_jax.main --config configs/systems/magface.py --workdir W --data_dir DIR
Arguments: head=magface|mag_cosface, backbone=iresnet50|iresnet100, batch_size. QMagFace is another score of MagFace's
features, `lrfr_jax.evaluate --score qmag`, and nothing of the training.
Hardware: not told.
Published, 10 folds: ResNet50 LFW 99.63, XQLFW 76.95 (the XQLFW site, one embedding); 99.72, 80.60 (QMagFace's paper);
  ResNet100 99.73, 83.90 (QMagFace's paper), IJB-C TAR at 1e-4 95.97.
  QMagFace, without mirror images: ResNet50 99.73, 80.63, AgeDB 97.88, CFP-FP 97.74; ResNet100 99.83, 83.95.
Source: IrvingMeng/MagFace and pterhoer/QMagFace, their code read and run.
Ours: dropout of single numbers (there Dropout2d of whole channels, which does not exist here), and BatchNorm's
epsilon and momentum. Its own test also subtracts the mean feature of the training folds, as `--centering
per_resolution` does.
"""

from configs import common, systems


def get_config(arg=None):
    args = common.parse_arg(arg, head="magface", backbone="iresnet50", batch_size=512)
    config = systems.without_twins(args.head, dataset="ms1m", backbone=args.backbone, batch_size=args.batch_size)
    config.num_epochs = 25.0
    config.model.input.update({"order": "bgr", "mean": 0.0, "scale": 255.0})
    config.optimizer.milestone_epochs = (10.0, 18.0, 22.0)
    config.evals.lfw.fusion = "none"
    return config
