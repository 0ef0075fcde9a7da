"""CUDA graphs of the phases: record the kernels of a phase once, then replay them without Python.

A replay uses the same random numbers as an eager phase, because the seed is set before it in the same way. A phase's
form (`Core.form`) determines its operations. Each form is recorded after a few eager uses, which create all lasting
tensors, such as moments and statistics, and let cuDNN choose its algorithms. Phases that share tensors, as D's and G's
do if both use the same generated images, have one form and are recorded and replayed together.
"""

import collections

import torch

EAGER_USES = 3  # eager uses of a form before it is recorded
TRIES = 3  # recordings of a form, because SDP's nearest real image, for one, can change with the last bit
NOISE = 10  # a replay may differ from an eager phase this many times as much as a second eager phase does,
FLOOR = 1e-5  # and in any case by this share of a tensor's norm
OURS = ("torch", "torch_utils", "training", "stylegan2_adamix")  # packages whose objects `tensors_of` inspects


def wanted(run, device):
    """Whether a run with these settings (`RunGroup`, or the command line's) records its phases on this device."""
    possible = torch.device(device).type == "cuda" and run.gpus == 1
    return possible and (not run.compile if run.graphs is None else run.graphs)


class Graphs:
    """Runs phases, from recordings if available.

    loss:    the `Core`.
    state:   function that returns all tensors that a phase changes or that are read later, in a fixed order.
    forget:  function that drops what a phase has left on the host when it failed.
    log:     gets a line for each form that stays eager.
    capture: function that records the kernels of a function without arguments, without running them, and returns a
             function that runs them.
    """

    def __init__(self, loss, state, forget, log, capture):
        self.loss, self.state, self.forget, self.log, self.capture = loss, state, forget, log, capture
        self.uses, self.tries = collections.Counter(), collections.Counter()
        self.recordings = {}  # form -> a Recording of each phase, or None if the form stays eager
        self.broken = False  # whether a recording failed

    def run(self, form, counts, run, functions, after):
        """Phases of `counts` microbatches each. form: None if they must be eager.

        run(functions, after=...): the host's part of the phases. functions: (compute, update) of each phase; the host
        calls compute(i, microbatch) for each microbatch, a tuple of tensors, and then update(). after: only for the
        first call of `run`.
        """
        if form is None or self.broken:
            run(functions, after)
        elif form in self.recordings:
            recordings = self.recordings[form]
            run(functions if recordings is None else [(r.compute, r.update) for r in recordings], after)
        elif self.uses[form] < EAGER_USES:
            self.uses[form] += 1
            run(functions, after)
        else:
            self._record(form, counts, run, functions, after)

    def _record(self, form, counts, run, functions, after):
        """Run the phases, and record them, unless that fails or a replay differs from eager phases."""
        steps, tensors = self.loss.steps, self.state()
        before = copied(tensors)

        def outcome(functions, *after):
            put(before, tensors)
            self.loss.steps = steps
            run(functions, *after)
            return copied(tensors)

        eager = outcome(functions, after)
        again = outcome(functions)
        recordings = [
            Recording(self.capture, count, self.loss.numbers_microbatches, *f) for count, f in zip(counts, functions)
        ]
        try:
            outcome([(r.record, r.record_update) for r in recordings])
            wrong = difference(outcome([(r.compute, r.update) for r in recordings]), eager, again)
        except (RuntimeError, NotImplementedError) as error:
            wrong = first_line(error)
            self._stop()
        if wrong:
            put(eager, tensors)
            self._discard(form, wrong)
        else:
            self.recordings[form] = recordings

    def _stop(self):
        """Stay eager: the random numbers of earlier recordings are lost with a recording that failed."""
        self.broken, self.capture = True, None
        self.recordings.clear()
        self.forget()

    def _discard(self, form, wrong):
        """Try again at the next use, or keep the form eager."""
        self.tries[form] += 1
        name = " and ".join(form[0])
        if self.broken:
            self.log(f"--graphs: every phase stays eager, because {name} cannot be recorded ({wrong})")
        elif self.tries[form] == TRIES:
            self.recordings[form] = None
            self.log(f"--graphs: {name} stays eager ({wrong})")


def copied(tensors):
    """Copies on the CPU: a GPU's memory holds the state once, beside the activations."""
    return [tensor.to("cpu", copy=True) for tensor in tensors]


@torch.no_grad()
def put(values, tensors):
    """Write values back into tensors."""
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


class Recording:
    """The recordings of one phase: of its microbatches, and of its update.

    count:    of microbatches. Only the first and the last differ from the others, unless they are `numbered`.
    function: compute(i, microbatch) of the phase.
    step:     update() of the phase.
    """

    def __init__(self, capture, count, numbered, function, step):
        self._capture, self._count, self._numbered = capture, count, numbered
        self._function, self._step = function, step
        self._microbatches = {}  # kind -> (input tensors, replay)
        self.update = None

    def _kind(self, i):
        return i if self._numbered else (i == 0, i == self._count - 1)

    def record(self, i, microbatch):
        """Record a microbatch, unless one of its kind is recorded."""
        if (kind := self._kind(i)) not in self._microbatches:
            inputs = [x.clone() for x in microbatch]
            self._microbatches[kind] = inputs, self._capture(lambda: self._function(i, inputs))

    def record_update(self):
        self.update = self._capture(self._step)

    def compute(self, i, microbatch):
        """Replay a microbatch on these tensors."""
        inputs, replay = self._microbatches[self._kind(i)]
        torch._foreach_copy_(inputs, list(microbatch))
        replay()


def difference(replayed, eager, again):
    """A description of how a replay differs from two eager phases from the same state; None if it does not.

    Each argument is a list of the same tensors. Differences between the eager phases are noise of the device.
    """
    worst = 0
    for a, b, c in zip(replayed, eager, again):
        if torch.equal(a, b):
            continue
        a, b, c = a.double(), b.double(), c.double()
        allowed = NOISE * (b - c).norm() + FLOOR * b.norm()
        distance = (a - b).norm()
        if not distance <= allowed:
            worst = max(worst, (distance / b.norm()).item()) if distance.isfinite() else torch.inf
    return f"a replay is {worst:.1e} away from it" if worst else None


def first_line(error):
    """Text about the error that came first: leaving a failed recording is an error too."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def capture_cuda():
    """A `capture` for `Graphs`: CUDA graphs in one memory pool, which are replayed in the order of their recording."""
    pool = torch.cuda.graph_pool_handle()

    def capture(function):
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer context returns to the stream even if the inner one fails to end. The thread that loads images
            # may allocate pinned memory meanwhile.
            stream = torch.cuda.stream(torch.cuda.current_stream())
            with stream, torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                function()
        except BaseException:
            for generator in torch.cuda.default_generators:  # otherwise they would still be recording
                generator.graphsafe_set_state(generator.clone_state())
            raise
        return graph.replay

    # A pool ends with its last graph and cannot be used again, and the first recording may be discarded.
    capture.first = capture(lambda: torch.zeros(1, device="cuda"))
    return capture


def tensors_of(*roots):
    """All tensors in objects of this project and of torch: in attributes, containers, modules, optimisers."""
    found, seen, queue = [], set(), list(roots)
    while queue:
        thing = queue.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            found.append(thing.detach())
        elif isinstance(thing, dict):
            queue += thing.values()
        elif isinstance(thing, list | tuple | set):
            queue += thing
        elif type(thing).__module__.split(".")[0] in OURS and hasattr(thing, "__dict__"):
            queue.append(vars(thing))
    return found
