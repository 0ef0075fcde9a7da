"""From the command line's `Arguments` to the `RunOptions` of a new run: presets, and checks of incompatible options."""

import dataclasses

from dnnlib import devices, image_size
from dnnlib.util import UserError, say
from metrics.compute import require_computable
from metrics.registry import listed, parse_metric
from stylegan2_adamix import settings
from stylegan2_adamix.objectives import OBJECTIVES
from torch_utils import precision
from training import architectures, graphs
from training.data.image_files import require_exists
from training.data.twemoji import is_builtin
from training.dataset import open_dataset
from training.device_memory import largest_microbatch
from training.options import AugmentationGroup, DataGroup, LossGroup, NetworkGroup, RunGroup, RunOptions
from training.presets import PRESETS, preset
from training.run_data import take_fingerprints
from training.run_name import run_name
from training.snapshot import load_networks
from training.transfer import depth

TRANSFER_ADA_KIMG = 100  # ADA is at least this fast if a run starts from a snapshot's weights


def plan_run(args):
    """The options of a new run. All errors in them are reported here, before any file is written."""
    for path in (args.data, args.metricdata):
        if path and not is_builtin(path):
            require_exists(path)  # before a snapshot to start from is downloaded
    args = _with_preset(args)
    metrics = listed(args.metrics)
    for name in metrics:
        parse_metric(name)
    dataset, metric_dataset = _open_data(args)
    fitting = dataset.resolution, dataset.num_channels, dataset.label_dim
    device = devices.pick_device(args.device)
    _check_graphs(args, device)
    require_computable(metrics, metric_dataset or dataset, *fitting, args.detector, device)
    row = preset(args.cfg, image_size.mean_side(dataset.resolution), args.gpus, device)
    loss = _loss(args, row)
    networks, augmentation = _networks(args, row, dataset, device, loss), _augmentation(args, row)
    batch = _batch(args, row, device, networks, loss, augmentation.augpipe)
    options = RunOptions(
        run=_run(args, row, dataset, metrics, device, loss, *batch),
        data=DataGroup(dataset.options(), metric_dataset.options() if metric_dataset else None),
        networks=networks,
        loss=loss,
        augmentation=augmentation,
    )
    architectures.check(options)
    _check_phases(options)
    check_loss(options)
    if not args.dry_run:
        options.data.fingerprints = take_fingerprints(dataset, metric_dataset)
    return options


def draw(*datasets):
    """Draw the built-in emoji of data sets now, before several processes start, so that errors appear early."""
    for dataset in filter(None, datasets):
        dataset.draw()


# ---- the preset and the data


def _with_preset(args):
    """`Arguments` with missing ones from the preset, except those that depend on the images.

    If neither --cfg nor --map was given, the mapping network is as deep as that of the snapshot to start from, so that
    it fits. Raises UserError if that is not a snapshot, or one of other architectures.
    """
    own_choice, row = args.cfg or args.map, PRESETS[args.cfg or "auto"]
    layers = depth(_require_architectures(args, row)["G"]) if args.resume else None
    resolution = row.resolution if is_builtin(args.data or row.data) else None
    return dataclasses.replace(
        args,
        cfg=args.cfg or "auto",
        map=args.map if own_choice or layers in (None, row.mapping_layers) else layers,
        data=args.data or row.data,
        cond=row.cond if args.cond is None else args.cond,
        resolution=resolution if args.resolution is None else args.resolution,
        aug=args.aug or row.aug,
        metrics=row.metrics if args.metrics is None else args.metrics,
    )


def _require_architectures(args, row):
    """The networks of the snapshot to start from. Raises UserError if this run's networks have other architectures."""
    loaded = load_networks(args.resume, frozen=False)
    for player, asked, usual in (("G", args.g_arch, row.G_arch), ("D", args.d_arch, row.D_arch)):
        wanted, theirs = asked or usual, loaded[player].architecture
        if wanted != theirs:
            raise UserError(
                f"{args.resume} has a {player} of the architecture {theirs}, not {wanted}: give the --cfg that it "
                f"was trained with, or --{player.lower()}-arch {theirs}"
            )
    return loaded


def _open_data(args):
    """The training images, and the reference images of metrics, or None if they are the same."""
    data = {"resolution": args.resolution, "use_labels": args.cond, "channels": args.channels}
    chosen = {"mirror": args.mirror, "subset": args.subset, "seed": args.seed}
    dataset = open_dataset(args.data, **chosen, **data)
    share = args.holdout
    if share is None:
        usual = PRESETS[args.cfg].holdout
        share = usual if dataset.selection.can_hold_out(usual) else 0.0
    dataset = dataset.without(share)
    if dataset.num_alpha and args.channels == "rgb":
        count = f"{dataset.num_alpha} image(s) of {dataset.name}"
        say(f"{count} have an alpha channel and are put on white; --channels rgba keeps it", err=True)
    metric_dataset = None
    if args.metricdata:
        metric_dataset = open_dataset(args.metricdata, **data | {"resolution": dataset.resolution})
    if not args.dry_run:
        draw(dataset, metric_dataset)
    return dataset, metric_dataset


# ---- the groups of RunOptions


def _run(args, row, dataset, metrics, device, loss, batch, batch_gpu):
    if args.kimg and args.minutes:
        raise UserError("--kimg and --minutes both say how long the run is: give one of them")
    kimg = None if args.minutes else args.kimg or row.kimg
    return RunGroup(
        name=run_name(args, dataset),
        cfg=args.cfg,
        seed=args.seed,
        resume=args.resume,
        device=device,
        gpus=args.gpus,
        workers=_workers(args, device) if args.workers is None else args.workers,
        allow_tf32=args.allow_tf32,
        cudnn_benchmark=not args.nobench,
        compile=args.compile,
        bf16=args.bf16,
        graphs=args.graphs,
        batch=batch,
        batch_gpu=batch_gpu,
        kimg=kimg,
        minutes=args.minutes,
        kimg_per_tick=row.kimg_per_tick,
        snap=args.snap or row.snap,
        state_minutes=args.state_minutes,
        metrics=metrics,
        detector=args.detector,
        keep_snapshots=args.keep_snapshots,
        wandb=args.wandb,
        quiet=args.quiet,
        by_length=_by_length(args, row, loss),
    )


def _workers(args, device):
    """Loader processes. A core decodes 500 images of 256x256 a second, a large GPU trains on 900."""
    return 0 if is_builtin(args.data) else min(4 if device == "cuda" else 2, devices.cpu_cores())


def _check_graphs(args, device):
    if args.graphs and device != "cuda":
        raise UserError(f"--graphs records CUDA graphs, which a run on {device} does not have: leave it out")
    if args.graphs and args.gpus > 1:
        raise UserError("--graphs works on one GPU: leave it or --gpus out")


def _batch(args, row, device, networks, loss, augpipe):
    """Images per batch, and per microbatch: on GPUs, unless given, as many as fit into their memory."""
    gpus, batch = args.gpus, args.batch or row.batch
    require_shared(batch, gpus)
    share = batch // gpus
    batch_gpu = args.batch_gpu
    if batch_gpu is None and device == "cuda":
        recorded = graphs.wanted(args, device)
        batch_gpu = largest_microbatch(share, devices.gpu_memory(), networks, loss, augpipe, recorded)
    if batch_gpu is None:
        batch_gpu = share if args.batch else min(batch // row.ref_gpus, share)
    require_shared(batch, gpus, batch_gpu)
    return batch, batch_gpu


def require_shared(batch, gpus, batch_gpu=1):
    """Raise UserError unless `gpus` processes can share a batch, in microbatches of `batch_gpu` images."""
    if batch % gpus:
        raise UserError(f"a batch of {batch} cannot be shared by {gpus} processes: it must be a multiple of --gpus")
    if batch // gpus % batch_gpu:
        raise UserError(
            f"{batch // gpus} images a process cannot be cut into microbatches of {batch_gpu}: give --batch-gpu a "
            "divisor"
        )


def _by_length(args, row, loss):
    """{option: its share of the run's length} of all durations that were not given and depend on the length.

    With --kimg, and for a preset with a length, only the decay of the rates.
    """
    durations = {}
    if row.decay and args.decay_kimg is None:
        durations["networks.decay_start_kimg"] = row.decay[0] * row.usual_kimg
        durations["networks.decay_end_kimg"] = row.usual_kimg
    if args.kimg or row.kimg is not None:
        return {name: kimg / row.usual_kimg for name, kimg in durations.items() if kimg}
    durations["augmentation.ada_kimg"] = row.ada_kimg
    if loss.terms["sdp"] is not None:
        given, usual = args.terms["sdp"], row.terms.get("sdp", {})
        durations |= {f"loss.terms.sdp.{name}": value for name, value in usual.items() if name not in given}
    if loss.instance_noise and "instance_noise_kimg" not in args.comparators:
        durations["loss.instance_noise_kimg"] = row.usual_kimg
    return {name: kimg / row.usual_kimg for name, kimg in durations.items() if kimg}


def _half_precision(args, row, device, objective_name):
    """Whether networks compute in half precision. Raises UserError if `--bf16` asks for it in vain."""
    float32 = OBJECTIVES[objective_name].float32
    if not args.bf16:
        return row.half_precision and device == "cuda" and not (float32 or args.fp32)
    if device != "cpu":
        raise UserError(f"--bf16 is for a CPU, not for {device}: leave it out")
    if not precision.has_amx():
        raise UserError(f"--bf16: {precision.NO_AMX}, and without it bfloat16 is slower than float32: leave it out")
    if args.fp32 or float32:
        other = "--fp32" if args.fp32 else f"--objective {objective_name}, which needs float32"
        raise UserError(f"--bf16 contradicts {other}: leave one of them out")
    return True


def _networks(args, row, dataset, device, loss):
    objective = OBJECTIVES[loss.objective_name]
    wanted = architectures.NetworkSettings(
        row=row,
        c_dim=dataset.label_dim,
        img_resolution=dataset.resolution,
        img_channels=dataset.num_channels,
        clamp=not args.fp32,
        half_precision=_half_precision(args, row, device, loss.objective_name),
        bfloat16=args.bf16,
        channels_last=args.nhwc,
        map=args.map,
        freeze_layers=args.freezed,
        objective=objective,
        width=args.width,
        d_norm=args.d_norm,
        d_average=args.d_average,
        feature_network=args.feature_network,
    )
    return NetworkGroup(
        **architectures.network_arguments(args.g_arch or row.G_arch, args.d_arch or row.D_arch, wanted),
        **_optimizers(args, row, objective),
        **_decay(args, row),
        G_reg_interval=row.reg_intervals[0],
        D_reg_interval=row.reg_intervals[1],
        D_steps=args.d_steps or row.D_steps,
        G_batches=row.G_batches,
        one_pass=row.one_pass,
        ema_kimg=row.ema_kimg,
        ema_rampup=None if args.resume else row.ema_rampup,
    )


def _optimizers(args, row, objective):
    """The optimisers of G and of D. A given learning rate is used unchanged, whatever the objective."""
    if objective.clip and row.clip_learning_rate:
        common, rates = {"algorithm": "rmsprop"}, 2 * [row.clip_learning_rate]
    else:
        common = {"algorithm": "adam", "betas": list(row.betas), "eps": objective.epsilon}
        rates = [rate * objective.rate for rate in (row.learning_rate, row.D_learning_rate or row.learning_rate)]
    return {
        "G_optimizer": {**common, "lr": args.glr or rates[0]},
        "D_optimizer": {**common, "lr": args.dlr or rates[1]},
    }


def _decay(args, row):
    """The decay of the learning rates, over --decay-kimg or the run's initial length."""
    if row.decay is None and args.decay_kimg is None:
        return {}
    share, factor = row.decay or (0, 0)
    end = args.decay_kimg or (None if args.minutes else args.kimg or row.kimg)
    return {"decay_start_kimg": share * (end or 0), "decay_end_kimg": end, "decay_factor": factor}


def _loss(args, row):
    try:
        comparators = settings.Comparators(**{"objective_name": row.objective} | args.comparators)
    except ValueError as error:
        raise UserError(str(error)) from None
    if "instance_noise_kimg" in args.comparators and not comparators.instance_noise:
        raise UserError("--instance-noise-kimg is how long --instance-noise lasts: give that too, or leave it out")
    default = settings.default_gamma(comparators.objective_name, row.r1_gamma)
    gamma = default if args.gamma is None else args.gamma
    if gamma < 0:
        raise UserError(f"--gamma must not be negative, not {gamma}")
    has_styles = architectures.network_class(args.g_arch or row.G_arch, "G").has_styles
    return LossGroup(
        r1_gamma=gamma,
        pl_weight=settings.default_pl_weight(comparators.objective_name, row.pl_weight) if has_styles else 0,
        style_mixing_prob=row.style_mixing_prob if has_styles else 0,
        apa=args.aug == "apa",
        with_dataaug=bool(args.with_dataaug),
        terms={name: _term(args, name, row.terms.get(name, {})) for name in settings.TERMS},
        **dataclasses.asdict(comparators),
    )


def _term(args, name, defaults):
    """The arguments of a term; None if it is off (not switched on or, for a term without a switch, no weight)."""
    cls, given = settings.TERMS[name], args.terms[name]
    if cls.switch is None:
        return given if given.get("weight") else None
    if name in args.switched_on:
        return {**defaults, **given}
    for field in settings.flagged(cls):
        if field.name in given:
            raise UserError(f"{field.metadata['flag']} needs {cls.switch}: add it, or leave the option out")
    return None


def _augmentation(args, row):
    aug = args.aug
    _check_augmentation(args)
    return AugmentationGroup(
        augpipe=_augpipe(args, row),
        augment_p=1.0 if aug == "diffaugment" else args.p or 0.0,
        ada_target=(0.6 if args.target is None else args.target) if aug in ("ada", "apa") else None,
        ada_kimg=min(row.ada_kimg, TRANSFER_ADA_KIMG) if args.resume else row.ada_kimg,
        ada_interval=4,
        ada_max_p=1.0 if aug == "apa" else None,
    )


def _check_augmentation(args):
    """Raise UserError for options that do not belong to --aug, or are out of range."""
    aug = args.aug
    if args.p is not None and aug != "fixed":
        raise UserError(f"--p is the strength of --aug fixed; --aug {aug} sets its own: leave --p out")
    if aug == "fixed" and args.p is None:
        raise UserError("--aug fixed needs --p, its strength from 0 to 1")
    if args.p is not None and not 0 <= args.p <= 1:
        raise UserError(f"--p is a probability, from 0 to 1, not {args.p}")
    if args.target is not None and aug not in ("ada", "apa"):
        raise UserError(f"--target steers --aug ada and apa, not {aug}: leave it out")
    if args.target is not None and not 0 <= args.target <= 1:
        raise UserError(f"--target is from 0 to 1, not {args.target}")
    if args.with_dataaug and aug != "apa":
        raise UserError(f"--with-dataaug belongs to --aug apa, not {aug}: leave it out")


def _augpipe(args, row):
    """The transformations: one of ADA's presets, `diffaugment:` and its policies, or None."""
    aug, policy = args.aug, args.diffaugment_policy
    with_apa = aug == "apa" and args.with_dataaug
    if args.augpipe is not None and (aug not in ("ada", "fixed") and not with_apa or policy is not None):
        other = "--diffaugment-policy" if policy is not None else f"--aug {aug}"
        raise UserError(f"--augpipe does not go with {other}: leave one out (--aug apa takes it with --with-dataaug 1)")
    if policy is not None and aug != "diffaugment" and not with_apa:
        raise UserError(f"--diffaugment-policy needs --aug diffaugment, or apa with --with-dataaug 1, not --aug {aug}")
    if aug == "diffaugment" or policy is not None:
        return "diffaugment:" + ",".join(args.policies or row.diffaugment_policies)
    return (args.augpipe or "bgc") if aug in ("ada", "fixed") or with_apa else None


def _check_phases(options):
    """Raise UserError for options that are incompatible with the phases of a step, or with D and G training on the same
    images."""
    networks, where = options.networks, f"--cfg {options.run.cfg}, where D and then G learn from the same images"
    if networks.one_pass and networks.D_steps > 1:
        raise UserError(f"--d-steps does not go with {where}: leave it out")
    if networks.one_pass and options.loss.apa:
        raise UserError(f"--aug apa shows D images of a phase of G before it, which is not there with {where}")
    if options.loss.apa and networks.D_steps > 1:  # the states do not hold the images of earlier steps
        raise UserError(
            f"--aug apa shows D images of G's phase of the same step, but here D has {networks.D_steps} steps for "
            "each of G's: add --d-steps 1, or use --aug ada or diffaugment"
        )


def check_loss(options):
    """Raise UserError with the terms' own reason if they reject options, alone or together."""
    try:
        settings.check(options.loss.arguments(), options.run.batch_gpu)
    except ValueError as error:
        raise UserError(str(error)) from None
    name = options.loss.objective_name
    if options.run.compile and OBJECTIVES[name].gradient_penalty:
        raise UserError(f"--compile cannot differentiate twice, which {name} does in every step: drop one of them")
