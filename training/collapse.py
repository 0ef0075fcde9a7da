"""Mode collapse: samples look real but cover little of the data (precision and recall, arXiv:1904.06991)."""

# Warn if recall is below the first number while precision is above the second. Collapsed samples (one shape) had recall
# 0 at precision 0.26 to 0.89 (100 images of CIFAR-10, against 50,000) and 0.10 (168 smileys). Varied faces also had
# recall 0, at precision 0.02 to 0.13 (smileys, three demos). Neither low recall nor low precision alone is a sign.
LOW_RECALL, FAIR_PRECISION = 0.01, 0.2
FALL_FROM, FALL_TO = 0.1, 0.25  # or: recall was at least this, then fell below this share of its best
FIRST_KIMG = 20  # earlier samples are noise, and their recall means nothing


class RecallWatch:
    """Checks precision and recall of a run's snapshots, if they are measured.

    A new network has low recall too, so low recall counts only from the middle of the run on.
    gamma: the weight of R1; what the warning advises depends on it.
    """

    def __init__(self, gamma):
        self.gamma = gamma
        self.best, self.warned = {}, False  # best: recall by its name in a metric's results

    def state_dict(self):
        return {"best": dict(self.best), "warned": self.warned}

    def load_state_dict(self, state):
        best = state["best"]
        self.best = dict(best) if isinstance(best, dict) else {}  # earlier versions kept one value for all metrics
        self.warned = state["warned"]

    def warning(self, results, kimg, length):
        """A line if recall is near 0 while precision is not, or if recall falls sharply; None otherwise. Warns once.

        results: values of a metric by name. length: of the run, in kimg.
        """
        name = next((name for name in results if name.endswith("_recall")), None)
        precision = results.get(str(name).removesuffix("recall") + "precision")
        if self.warned or kimg < FIRST_KIMG or name is None or precision is None:
            return None
        recall, best = results[name], self.best.get(name, 0.0)
        self.best[name] = max(best, recall)
        low = recall < LOW_RECALL and precision > FAIR_PRECISION and kimg >= length / 2
        fallen = best >= FALL_FROM and recall < best * FALL_TO
        if not low and not fallen:
            return None
        self.warned = True
        what = f"recall fell from {best:.2g} to {recall:.2g}" if fallen else f"recall is {recall:.2g}"
        return (
            f"at {kimg:g} kimg {what} while precision is {precision:.2g}: samples cover little of the data (mode "
            "collapse). If the newest grid's samples look alike, use the best snapshot so far (best.json), or train "
            f"again with {'ten times this --gamma' if self.gamma else 'another --seed'}"
        )
