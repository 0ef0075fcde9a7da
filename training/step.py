"""One optimisation step: every phase that is due, the moving average of G, and the strength of the augmentation.

A step depends only on its position in the run: all random numbers are seeded by (seed, step, phase, microbatch). So a
run that was stopped and resumed, or distributed over other processes, computes the same numbers.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from stylegan2_adamix.finite import LOOK_EVERY, STREAK
from stylegan2_adamix.gradients import FlatGradient
from stylegan2_adamix.host import Host
from stylegan2_adamix.terms import build as build_loss
from torch_utils import distributed, precision, training_stats
from training import optimizer
from training.architectures import build
from training.augment import AdaptiveController
from training.diffaugment import build_pipe
from training.graphs import Graphs, capture_cuda, tensors_of, wanted


class Networks(NamedTuple):
    """The networks. G_ema, the moving average of G, generates the samples. The pipe may be None."""

    G: torch.nn.Module
    D: torch.nn.Module
    G_ema: torch.nn.Module
    augment_pipe: torch.nn.Module | None


class Phase(NamedTuple):
    """One phase of the schedule: its name in the loss, the module that it trains, its interval in steps, the factor of
    its gradient, for lazy regularisation, and the number of batches of generated images."""

    name: str
    module: torch.nn.Module
    gradient: FlatGradient
    optimizer: torch.optim.Optimizer
    interval: int
    gain: int = 1
    batches: int = 1


@dataclasses.dataclass
class Position:
    """The position of a run: images shown, steps, ticks, and the images shown when the current tick began."""

    cur_nimg: int = 0
    cur_step: int = 0
    tick: int = 0
    tick_start_nimg: int = 0

    def state_dict(self):
        return dataclasses.asdict(self)

    def load_state_dict(self, state):
        vars(self).update(state)


def build_networks(options, device):
    """`Networks` with their initial weights, which depend on the seed."""
    torch.manual_seed(options.run.seed)
    # On a CPU, convolutions are channels-last: channels-last weights and gradients are not copied at each use.
    layout = {"memory_format": torch.channels_last} if device.type == "cpu" else {}
    chosen = options.networks
    G = build(chosen.G_arch, "G", chosen.G).train().requires_grad_(False).to(device, **layout)
    D = build(chosen.D_arch, "D", chosen.D).train().requires_grad_(False).to(device, **layout)
    if device.type == "cpu" and not options.run.bf16:  # a run that began on a GPU may have asked for half precision
        precision.compute_in_float32(G, D)
    pipe = None
    if options.augmentation.augpipe or options.loss.apa:
        # Without transformations the pipe changes no image, but it holds p for APA.
        pipe = build_pipe(options.augmentation.augpipe).train().requires_grad_(False).to(device)
        pipe.p.fill_(options.augmentation.augment_p)
    return Networks(G, D, copy.deepcopy(G).eval(), pipe)


class TrainingStep:
    """Call it with a batch to train on it.

    options:  `RunOptions`.
    label:    function from an index of the data set to its label, float32 [c_dim]; generated images use such labels.
    position: read and advanced by each step.
    """

    def __init__(self, options, networks, device, position, dataset_size=0, label: Callable | None = None):
        self.options, self.networks, self.device, self.position = options, networks, device, position
        self.dataset_size, self.label = dataset_size, label
        G, D = networks.G, networks.D
        loss = options.loss.arguments()
        host = Host(G.mapping, G.synthesis, D, style_mixing_prob=loss.pop("style_mixing_prob"))
        updates, augmentation = options.networks, options.augmentation
        host.gradients = {"G": FlatGradient(G.parameters()), "D": FlatGradient(D.parameters())}
        self.reports = training_stats.Reports()
        given = networks.augment_pipe, device, self.reports.add
        self.loss = build_loss(host, *given, one_pass=updates.one_pass, **loss)
        kind = {"capturable": wanted(options.run, device)}
        self.optimizers = {
            "G": optimizer.build(list(G.parameters()), updates.G_reg_interval, **updates.G_optimizer, **kind),
            "D": optimizer.build(list(D.parameters()), updates.D_reg_interval, **updates.D_optimizer, **kind),
        }
        self.decay = None
        if updates.decay_end_kimg is not None:
            times = updates.decay_start_kimg, updates.decay_end_kimg, updates.decay_factor
            self.decay = optimizer.Decay(self.optimizers.values(), *times)
        self.phases = self._phases()
        self.graphs = None  # by `use_graphs`
        self.controller = None
        if augmentation.ada_target is not None:
            self.controller = AdaptiveController(
                augmentation.ada_target, augmentation.ada_kimg, augmentation.ada_interval, augmentation.ada_max_p
            )
        self.signs = training_stats.Collector("Loss/signs/real", device)
        self.bad_streak = BadStreak([phase.name for phase in self.phases], device)

    def _phases(self):
        """Main and regularisation phases of G and of D; one combined phase if there is no regularisation interval.

        With `one_pass`, D comes first: its phase generates the images of G's phase.
        """
        phases, updates = [], self.options.networks
        players = [("G", updates.D_steps), ("D", 1)]
        for name, steps in reversed(players) if updates.one_pass else players:
            module, lazy = getattr(self.networks, name), getattr(updates, f"{name}_reg_interval")
            trained = module, self.loss.host.gradients[name], self.optimizers[name]
            regularised = bool(self.loss.regularisers(name))
            main = "both" if regularised and lazy is None else "main"
            batches = updates.G_batches if name == "G" else 1
            phases.append(Phase(f"{name}{main}", *trained, interval=steps, batches=batches))
            if regularised and lazy is not None:
                phases.append(Phase(f"{name}reg", *trained, interval=steps * lazy, gain=lazy))
        return phases

    def compile(self, log):
        """Give the loss compiled versions of G's synthesis and D's features; without a compiler, `log` gets a line."""
        try:
            torch.compile(torch.sin)(torch.zeros(2, device=self.device))
        except Exception as error:  # the compiler's exceptions have no common class
            log(f"--compile: torch.compile does not work here ({type(error).__name__}); training continues without")
            return False
        # The strength meter differentiates a graph several times, so its buffers must be kept.
        torch._functorch.config.donated_buffer = False
        self.loss.use_compiled(torch.compile(self.networks.G.synthesis), torch.compile(self.networks.D.features))
        return True

    def use_graphs(self, log, capture=None):
        """Record phases and replay them from here on (graphs.py); `log` gets a line for each phase that stays eager.
        Call it after restoring a state. capture: CUDA graphs unless given."""
        for group in (group for each in self.optimizers.values() for group in each.param_groups):
            if self.decay:  # a graph would keep the value of a number
                group["lr"] = torch.tensor(float(group["lr"]), device=self.device)

        def forget():
            self.loss.kept.clear()
            for holder in (self.loss.backward.finite, self.loss.inputs.apa, self.reports):
                if holder is not None:
                    holder.forget()

        self.graphs = Graphs(self.loss, self._changed, forget, log, capture or capture_cuda())

    def _changed(self):
        """Every tensor that a phase changes."""
        phases = [(phase.module, phase.gradient, phase.optimizer) for phase in self.phases]
        return tensors_of(phases, self.loss, self.reports, self.bad_streak)

    def parts(self):
        """The step's parts of the training state, by name."""
        G, D, G_ema, augment_pipe = self.networks
        return {
            "networks": {"G": G, "D": D, "G_ema": G_ema},
            "optimizers": self.optimizers,
            "augment_pipe": augment_pipe,
            "loss": self.loss,
            "bad_streak": self.bad_streak,
            "signs": self.signs,
        }

    def __call__(self, real_img, real_c, after_microbatch=lambda images, where: None):
        """Train on uint8 images [share, C, H, W] and labels [share, c_dim], this process's share of the batch.

        after_microbatch(images, where): called after each call of the loss, with its share of the batch's images and
        text for a progress bar. Raises FloatingPointError if the run has diverged.
        """
        position = self.position
        real_img = sent(real_img, self.device).to(torch.float32) / 127.5 - 1
        real_c = sent(real_c, self.device)
        if position.cur_nimg == position.tick_start_nimg:
            self.loss.measure_strength()
        if self.decay:
            self.decay.apply(position.cur_nimg / 1e3)
        due = [i for i, phase in enumerate(self.phases) if position.cur_step % phase.interval == 0]
        for indices in [due] if self.loss.one_pass else [[i] for i in due]:
            images = self.options.run.batch / len(due)
            self.run_phases(indices, real_img, real_c, after_microbatch, images)
        self.bad_streak.check(position.cur_step)
        self.update_average()
        position.cur_nimg += self.options.run.batch
        position.cur_step += 1
        self._update_augmentation()

    def run_phases(self, indices, real_img, real_c, after_microbatch=lambda images, where: None, images=0):
        """One update for each of self.phases[indices], in this order, which are recorded together. On images
        [share, C, H, W] in [-1, 1] and labels [share, c_dim]; images: the progress that each update makes."""
        share, size = len(real_img), self.options.run.batch_gpu
        batches = [
            microbatches(size, real_img, real_c, *self._latents(i, share, self.phases[i].batches)) for i in indices
        ]
        functions = [
            (functools.partial(self._compute, self.phases[i], len(batch)), functools.partial(self._update, i))
            for i, batch in zip(indices, batches)
        ]

        def run(functions, after=lambda images, where: None):
            for index, batch, (compute, update) in zip(indices, batches, functions):
                progress = functools.partial(after, images / len(batch))
                self._host_part(index, batch, compute, update, progress)

        if self.graphs is None:
            run(functions, after_microbatch)
        else:
            form = self.loss.form(tuple(self.phases[index].name for index in indices), self.position.cur_nimg)
            self.graphs.run(form, [len(batch) for batch in batches], run, functions, after_microbatch)

    def _host_part(self, index, batch, compute, update, after):
        """A phase's work on the host. compute(i, microbatch) and update() do that on the device; after(where) follows
        each microbatch."""
        phase, position, run = self.phases[index], self.position, self.options.run
        self.require_gradients(phase)
        self.loss.begin(phase.name, position.cur_nimg)
        for i, microbatch in enumerate(batch):
            place = distributed.rank() * len(batch) + i
            torch.manual_seed(microbatch_seed(run.seed, position.cur_step, index, place))
            self.loss.prepare(run.batch_gpu, self.device)
            compute(i, microbatch)
            where = f"{phase.name} {i + 1}/{len(batch)}"
            after(f"kimg {position.cur_nimg / 1e3:.2f}  step {position.cur_step}  {where}")
        self.loss.end()
        phase.module.requires_grad_(False)
        phase.gradient.average()
        update()

    def _compute(self, phase, count, i, microbatch):
        """Add the gradient of microbatch i of `count`. Like `_update`, it needs nothing from the host."""
        run = self.options.run
        gain = phase.gain * run.batch_gpu * distributed.world_size() / run.batch / phase.batches
        self.loss.compute(*microbatch, gain=gain, last=i == count - 1)
        self.reports.flush()

    def _update(self, index):
        """Step the optimiser along the gradient of the phase, whose entries that are not finite become 0 or 1e5."""
        phase = self.phases[index]
        bad = phase.gradient.finish()
        self.reports.add("Progress/bad_gradients", bad)
        self.reports.flush()
        self.bad_streak.count(index, bad)
        phase.optimizer.step()

    def require_gradients(self, phase):
        """Require gradients of the phase's player; with `one_pass` also of G until the end of its phase, which uses D's
        images."""
        phase.module.requires_grad_(True)
        if self.loss.one_pass and phase.name in ("Dmain", "Dboth"):
            self.networks.G.requires_grad_(True)

    def _latents(self, index, share, batches=1):
        """This process's share of z and labels; one generator draws those of the whole batch, or of several."""
        batch, share, G = self.options.run.batch * batches, share * batches, self.networks.G
        first = distributed.rank() * share
        generator = torch.Generator().manual_seed(
            microbatch_seed(self.options.run.seed, self.position.cur_step, index, batch)
        )
        z = torch.randn([batch, G.z_dim], generator=generator)[first : first + share]
        if not G.c_dim:
            return sent(z, self.device), torch.zeros([share, 0], device=self.device)
        chosen = torch.randint(self.dataset_size, [batch], generator=generator)[first : first + share]
        c = torch.from_numpy(np.stack([self.label(i) for i in chosen.tolist()]))
        return sent(z, self.device), sent(c, self.device)

    def update_average(self):
        """Update G_ema with a half-life of ema_kimg, or of `ema_rampup` times the images shown, if that is less."""
        ema = self.options.networks
        half_life = ema.ema_kimg * 1000
        if ema.ema_rampup is not None:
            half_life = min(half_life, self.position.cur_nimg * ema.ema_rampup)
        beta = 0.5 ** (self.options.run.batch / max(half_life, 1e-8))
        G, G_ema = self.networks.G, self.networks.G_ema
        if distributed.world_size() > 1:
            distributed.average([*running_statistics(G), *running_statistics(self.networks.D)])
        (ours, own), (theirs, copied) = averaged(G_ema), averaged(G)
        with torch.no_grad():
            torch._foreach_lerp_(ours, theirs, 1 - beta)
            torch._foreach_copy_(own, copied)

    def _update_augmentation(self):
        """Update p for ADA or APA every `interval` steps."""
        if self.controller and self.position.cur_step % self.controller.interval == 0:
            images = self.controller.interval * self.options.run.batch
            self.controller.update(self.networks.augment_pipe.p, self.signs.take_mean("Loss/signs/real"), images)


class BadStreak:
    """Consecutive updates with gradients that were not finite, for each phase; counted on the device."""

    def __init__(self, names, device):
        self.names = names
        self._streak = torch.zeros(len(names), device=device)

    def count(self, index, bad):
        """Count an update of the phase `index`. bad: number of entries that were not finite, a scalar tensor."""
        self._streak[index].add_(1).mul_(bad > 0)

    def check(self, step):
        """Raise FloatingPointError if a streak is too long. On a GPU, check only at intervals: it synchronises."""
        if self._streak.device.type != "cpu" and step % LOOK_EVERY:
            return
        streak, index = self._streak.max(dim=0)
        if streak >= STREAK:
            raise FloatingPointError(
                f"gradients were not finite for {STREAK} updates, up to {self.names[index]} at step {step}: the "
                "run has diverged; lower the learning rate or a term's weight"
            )

    def state_dict(self):
        return self._streak

    def load_state_dict(self, state):
        self._streak.copy_(state)


def sent(x, device):
    """x on the device. For a GPU, x is copied asynchronously from pinned memory."""
    cuda = device.type == "cuda"
    return (x.pin_memory() if cuda and not x.is_pinned() else x).to(device, non_blocking=cuda)


def microbatches(size, real_img, real_c, z, gen_c):
    """[(images, labels, z, labels of generated images)] of `size` each. If there are more z, they use the same images
    again."""
    batches = len(z) // len(real_img)
    return list(zip(real_img.split(size) * batches, real_c.split(size) * batches, z.split(size), gen_c.split(size)))


def running_statistics(network):
    """The running means and variances of a network's batch normalisation, which differ between processes."""
    layers = [m for m in network.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    return [statistic for m in layers for statistic in (m.running_mean, m.running_var)]


def averaged(G):
    """Two lists of a generator's tensors: those that G_ema averages, and those that it copies; in a fixed order."""
    statistics = running_statistics(G)
    known = {id(tensor) for tensor in statistics}
    return [*G.parameters(), *statistics], [buffer for buffer in G.buffers() if id(buffer) not in known]


def microbatch_seed(seed, step, phase, index):
    """The seed of all random numbers in one call of the loss.

    `index`: of the microbatch in the whole batch, over all processes; the batch size as index seeds its latents.
    """
    return int(np.random.SeedSequence([seed, step, phase, index]).generate_state(1, np.uint64)[0] >> 1)
