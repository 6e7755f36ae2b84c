"""Blocks that several experiments share, and the reading of `--config FILE.py:key=value,...`."""

from ml_collections import ConfigDict


def view(
    *sizes: int,
    ratios: tuple[float, ...] = (),
    share: float | dict = 1.0,  # or {"first": p, "increment": p, "every_images": n}: it grows
    operator: str = "bicubic",
    source: str = "first",
    weight: float = 0.5,
) -> dict:
    """Sizes that an image is brought to, how often each and how; the share of the batch; the part in classification."""
    equal = (1.0,) * len(sizes)
    rule = {"sizes": sizes, "ratios": ratios or equal, "share": share if sizes else 0.0}
    return rule | {"operator": operator, "source": source, "weight": weight}


def _learns_from_hr(*sizes: int, **rule) -> dict:
    """A teacher sees the image, a student alone what becomes of it."""
    return {"hr": view(weight=0.0), "lr": view(*sizes, weight=1.0, **rule)}


# Resolution policies: what the views of a batch are, and how often each size is drawn (Ling et al. 2022, Table 4).
POLICIES = {
    "none": {"hr": view(weight=1.0)},  # the high-resolution baseline: one view, classification alone
    "single7": {"hr": view(), "lr": view(7)},
    "aug": {"hr": view(), "lr": view(14)},
    "single28": {"hr": view(), "lr": view(28)},
    "maug": {"hr": view(), "lr": view(7, 14, 20, ratios=(1.0, 1.0, 2.0))},  # the paper's method, section 3.1
    "paug": {"hr": view(), "lr": view(7, 14, 28, 56)},
    # Knoche et al. 2021 and 2022. Their texts do not tell ST-M1 and ST-M2 apart: that both views of the latter are
    # drawn, 112 px among the sizes, is a reading that fits its lower LFW; another is ST-M1 with a larger distance.
    "bt_m": {"mixed": view(7, 14, 28, 56, share=0.5, weight=1.0)},
    "st_m1": {"hr": view(), "lr": view(7, 14, 28, 56)},
    "st_m2": {"first": view(7, 14, 28, 56, 112), "second": view(7, 14, 28, 56, 112)},
    # Students of a teacher. Massoli et al. 2020: sides as at 224 px of theirs; the share is fixed, or grows by
    # {"first": 0.1, "increment": 0.1, "every_images": 35000}. A-SKD (Shin et al. 2022) has one size a student.
    "massoli": _learns_from_hr(8, 16, 32, 64, share=0.1, operator="bilinear"),
    "askd56": _learns_from_hr(56, operator="askd_released"),
    "askd28": _learns_from_hr(28, operator="askd_released"),
    "askd14": _learns_from_hr(14, operator="askd_released"),
    "fskd": _learns_from_hr(14, 28, 56, 112, operator="opencv"),
    # Of `use_faithful`: three faces in five come small. configs/compatible.py makes it all of them.
    "faithful": _learns_from_hr(7, 10, 14, 20, 28, share=0.6),
}

_MAGFACE = {
    "scale": 64.0,
    "smallest_norm": 10.0,  # l_a
    "largest_norm": 110.0,  # u_a
    "smallest_margin": 0.45,  # l_m
    "largest_margin": 0.8,  # u_m
    "norm_weight": 35.0,  # lambda_g; at least 22.5867 with the numbers above
    "guard": "easy",
}
_RPCL = {
    "rival_share": 0.5,  # f of its MagFace, run with --f .5 --thred .7; ours for CosFace and ArcFace
    "rival_threshold": 0.7,
}
_RPCL_RELEASED = {"rival_factor": 0.2, "probability_gap": 1e-4}
# Classification heads with the numbers that they were published with; what the source does not say is marked as ours.
HEADS = {
    "softmax": {"scale": 64.0},  # NormFace learns its scale; ours: that of ArcFace
    "linear_softmax": {"bias": True},
    "cosface": {"scale": 48.0, "margin": 0.4},  # Ling et al. 2022, section 4.1; CosFace itself: 64, 0.35
    "arcface": {
        "scale": 64.0,
        "margin": 0.5,
        "gradient": "exact",  # 'straight_through': as arcface_torch, and thus its published weights
        "guard": "none",  # 'easy', 'fallback': as older releases have it
    },
    "magface": _MAGFACE,
    "mag_cosface": {key: value for key, value in _MAGFACE.items() if key != "guard"}
    | {"smallest_margin": 0.35, "norm_weight": 150.0},  # its run_dist_cos.sh
    "adaface": {
        "scale": 64.0,
        "margin": 0.4,
        "concentration": 0.333,  # h
        "rate": 0.01,  # t_alpha
        "first_mean": 20.0,
        "first_std": 100.0,
        "largest_norm": 100.0,
        "gradient": "exact",  # 'straight_through': as CVLface
    },
    "curricularface": {"scale": 64.0, "margin": 0.5, "rate": 0.01},
    "elastic_arcface": {"scale": 64.0, "margin": 0.5, "sigma": 0.05, "plus": "none"},  # with plus sigma is 0.0175
    "elastic_cosface": {"scale": 64.0, "margin": 0.35, "sigma": 0.05, "plus": "none"},  # with plus sigma is 0.02
    "npt": {"radius": 1.0, "delta": 0.5, "num_nearest": 1},  # the paper's MobileFaceNet: 6 nearest
    "npt_released": {"radius": 1.0, "delta": 0.5, "num_nearest": 1},
    "uniface": {"scale": 64.0, "margin": 0.4, "negative_weight": 1.0, "bias_factor": 10.0},
    "rpcl_cosface": {"scale": 32.0, "margin": 0.2, "guard": "easy"} | _RPCL,
    "rpcl_arcface": {"scale": 32.0, "margin": 0.5, "gradient": "exact", "guard": "easy"} | _RPCL,
    "rpcl_magface": _MAGFACE | {"scale": 32.0, "norm_weight": 20.0} | _RPCL,
    "rpcl_cosface_released": {"scale": 32.0, "margin": 0.2, "rival_threshold": 0.7} | _RPCL_RELEASED,
    "rpcl_arcface_released": {"scale": 32.0, "margin": 0.5, "rival_threshold": 0.8} | _RPCL_RELEASED,
}


def parse_arg(arg: str | None, **defaults):
    """Returns a ConfigDict of `defaults`, changed by `key=value,key=value`; a value takes its default's type."""
    args = ConfigDict(defaults)
    for item in filter(None, map(str.strip, (arg or "").split(","))):
        key, separator, value = (part.strip() for part in item.partition("="))
        if not separator or key not in defaults:
            known = ", ".join(f"{name}={default}" for name, default in defaults.items())
            raise ValueError(f"config argument {item!r} is not one of {known}")
        kind = type(defaults[key])
        try:
            args[key] = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            raise ValueError(f"config argument {item!r}: {value!r} is no {kind.__name__}") from None
    return args


def reading(dataset: str, *, num_threads: int, prefetch_images: int) -> ConfigDict:
    """Which prepared set, in which order, and how its images reach the devices: by so many threads, so many ahead."""
    return ConfigDict(
        {
            "dataset": dataset,
            "order": "shuffled",  # 'identities': so many images of each identity side by side, identities in turn
            "images_per_identity": 1,
            # Another set of which each batch holds so many images too; '': none.
            "second": {"dataset": "", "batch_size": 0, "order": "shuffled", "images_per_identity": 1},
            # 'device': whole sets in the memory of each device, 37.6 kB an image; what it saves: docs/performance.md.
            "cache": "none",
            "num_threads": num_threads,
            "prefetch_images": prefetch_images,
        }
    )


def augment(policy: str) -> ConfigDict:
    """The arguments of `views.make_views` for a policy of the table above."""
    if policy not in POLICIES:
        raise ValueError(f"unknown resolution policy {policy!r}: choose one of {', '.join(POLICIES)}")
    return ConfigDict(
        {
            "views": POLICIES[policy],
            "rounding": "uint8",  # as the released code's images through Pillow; 'none' keeps real numbers
            "border_probability": 0.0,  # black bands along the borders, for sets whose faces are framed
            "border_largest": 0,
            # AdaFace's, at 0.2 each: a box on black, low resolution by any kernel, other light.
            "crop": {"probability": 0.0, "areas": (0.2, 1.0), "aspects": (3 / 4, 4 / 3)},
            "low_resolution": {"probability": 0.0, "sides": (0.2, 1.0)},
            "light": {"probability": 0.0, "strength": 0.5},
            "gray": {"probability": 0.0},  # Massoli's, at 0.2
            "flip": "shared",  # the paper says "random flip"; the released code flips the two views independently
        }
    )


def model_input() -> ConfigDict:
    """The input convention of networks that are trained here from scratch: RGB, (pixel - 127.5) / 127.5, all of it."""
    return ConfigDict({"order": "rgb", "mean": 127.5, "scale": 127.5, "columns": 112, "size": 112})


def raw_input() -> ConfigDict:
    """The input convention of the Face Transformer: RGB, the pixels as they are."""
    return ConfigDict({"order": "rgb", "mean": 0.0, "scale": 1.0, "columns": 112})


def classifier() -> ConfigDict:
    """All class centers on every device, compared with at once; docs/performance.md says when to change what."""
    return ConfigDict({"shards": 1, "chunks": 1, "sampled_share": 1.0})


def head(name: str) -> ConfigDict:
    """The name and the numbers of a classification head of the table above."""
    if name not in HEADS:
        raise ValueError(f"unknown head {name!r}: choose one of {', '.join(HEADS)}")
    return ConfigDict({"name": name} | HEADS[name])


def loss(policy: str) -> ConfigDict:
    """The distance of Eq. 7, LogExp, at the paper's numbers (section 4.1)."""
    is_paired = len(POLICIES[policy]) == 2 and all(rule["weight"] for rule in POLICIES[policy].values())
    return ConfigDict(
        {
            "distance": "logexp",
            "p": 1.0,  # "p = 1 by default", Eq. 5 and Table 4
            "reduction": "paper",  # 'released': one log over the whole batch, as the released ExpDist
            "distance_weight": 1.0 if is_paired else 0.0,  # lambda; 5 is the best on XQLFW in Table 5
            "weight_unit": "lambda",  # 'gradient_share': times the length of the classification's gradient
        }
    )


def teacher(checkpoint: str = "", *, cache: str = "none", compatible_from: int = 0) -> ConfigDict:
    """A frozen network that terms may name, and from which side length on it reads faces itself (0: no promise)."""
    # 'records': its embeddings of both orientations are made once and lie beside the set.
    return ConfigDict({"checkpoint": checkpoint, "cache": cache, "compatible_from": compatible_from})


def term(term: str, *of: str, weight: float, weight_unit: str = "lambda", **numbers) -> dict:
    """An entry of the group `terms`: the formula's key, the features that it takes, its weight and its numbers."""
    return {"term": term, "of": of, "weight": weight, "weight_unit": weight_unit} | numbers


def verification(*, resolutions: tuple[int, ...] = (56, 28, 20, 14, 10, 7)) -> ConfigDict:
    """A verification set at full and at lower resolutions, by InsightFace's protocol."""
    return ConfigDict(
        {
            "protocol": "insightface",
            "resolutions": resolutions,
            "fars": (0.1, 0.01, 0.001),
        }
    )


def use_faithful(config):
    """What fine-tuning is pulled to: what the weights that it begins with see in the face as it was.

    One view a face, small or as it was. It is classified against these weights' mean embeddings, which stay, at so
    small a weight that people who are in no training set keep their places (docs/results.md).
    """
    config.loss.distance_weight = 0.0
    same_face = "student.lr.feature", "teacher.hr.feature"
    config.terms = {"lr_to_start": term("cosine", *same_face, weight=300.0, over="sum")}
    # With --config.init_from both are other weights.
    config.teacher = teacher(config.get_oneway_ref("init_from"), cache="records")
    config.class_centers = "teacher"
    config.optimizer.frozen = ("classifier",)
    # In 150 steps of 64 small real faces their cosine distance falls to 0.55, by SGD at a rate of 0.02 to 0.62.
    use_adamw(config, learning_rate=1e-3, weight_decay=1e-4, second_beta=0.99)


def use_adamw(config, *, learning_rate, weight_decay, second_beta=0.999):
    """AdamW, by which matrices alone decay; the schedule is set without milestones."""
    config.optimizer.algorithm = "adamw"
    config.optimizer.learning_rate = learning_rate
    config.optimizer.momentum = 0.0
    config.optimizer.betas = (0.9, second_beta)
    config.optimizer.epsilon = 1e-8
    config.optimizer.weight_decay = weight_decay
    config.optimizer.weight_decay_on = "no_norm_bias"
    config.optimizer.milestone_epochs = ()
    config.optimizer.decay_factor = 1.0
