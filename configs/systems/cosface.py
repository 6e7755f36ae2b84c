"""CosFace on CASIA-WebFace: the paper's high-resolution baseline (Ling et al. 2022, Table 3 "CosFace(Res34)").

Command:
  python -m lrfr_jax.main --config configs/systems/cosface.py --workdir W --data_dir DIR
Arguments: batch_size.
Hardware of the paper: two GTX 1080 Ti.
Published: LFW 99.42, XQLFW 68.95, 10 folds; docs/training.md says where the paper's and the released code's protocol
differ. Its own scale 48 and margin 0.4; CosFace itself (Wang et al. 2018) has 64 and 0.35.
Source: the paper's section 4.1 and its released code, read. Nothing is ours: it is configs/casia_r34.py:policy=none.
Table 2's "CosFace(Res34)" is another system, a row of RPCL's table: configs/systems/rpcl.py. Its "CosFace(Res100)" is
from URL's, whose training is not told.
"""

from configs import casia_r34, common


def get_config(arg=None):
    args = common.parse_arg(arg, batch_size=256)
    return casia_r34.get_config(f"policy=none,batch_size={args.batch_size}")
