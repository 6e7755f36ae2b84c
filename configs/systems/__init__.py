"""One file = one system that the paper compares itself with (Tables 1-3); here is what several of them share.

A docstring says the command, the hardware, the published numbers with their protocol, where the recipe is from, and
what in it is ours because the source says nothing or because the code here has nothing like it.
"""

from configs import common, ms1m_r50


def without_twins(head, *, dataset, backbone, batch_size):
    """Faces as they are, one view, on a network from scratch: what a published margin head was trained on.

    What the systems' codes agree in: SGD with momentum 0.9, learning rate 0.1 divided by 10 at milestones, weight decay
    5e-4 of every parameter, mirrored faces, 512 dimensions. Ours for all: dropout 0.4 of single numbers, the body in
    bfloat16 on MS1M, and the initial class centers.
    """
    config = ms1m_r50.get_config(f"policy=none,batch_size={batch_size},backbone={backbone}")
    config.input.dataset = dataset
    config.model.dtype = "bfloat16" if dataset == "ms1m" else "float32"
    config.head = common.head(head)
    config.optimizer.learning_rate = 0.1
    return config
