"""The paper's large recipe: ResNet50 on cleaned MS1M (Ling et al. 2022, section 4.1; Tables 1-3, rows "Res50").

Command:
  python -m lrfr_jax.prepare recordio --source faces_emore --name ms1m --data_dir DIR --shards 64
  python -m lrfr_jax.main --config configs/ms1m_r50.py --workdir W --data_dir DIR
Arguments: policy=none|aug|maug|paug|single7|single28|bt_m|st_m1|st_m2, batch_size, backbone.
Which network "ResNet50" is, is not sure: the paper cites He et al. (bottlenecks: `resnet50`), the released SCface
script loads an InsightFace IR-50 (`backbone=iresnet50`).
Hardware of the paper: two GTX 1080 Ti. Expected (paper): LFW 99.40, XQLFW 94.33.
Data: 85,742 identities, 5.8 million faces; withdrawn by its makers, non-commercial research.
"""

from configs import casia_r34, common


def get_config(arg=None):
    args = common.parse_arg(arg, policy="maug", batch_size=256, backbone="resnet50")
    config = casia_r34.get_config(f"policy={args.policy},batch_size={args.batch_size}")
    config.num_epochs = 16.0  # paper 4.1
    config.input.dataset = "ms1m"
    config.model.backbone = args.backbone
    config.model.dtype = "bfloat16"  # body only; the paper trained in fp32
    config.optimizer.learning_rate = 0.01  # paper 4.1
    config.optimizer.milestone_epochs = (8.0, 12.0)  # paper 4.1
    return config
