"""Mode collapse, seen: samples that look real but cover little of the data (precision and recall, arXiv:1904.06991)."""

# Recall below the one beside a precision above the other. Samples of one shape had a recall of 0 beside 0.26 to 0.89
# (100 images of CIFAR-10, against 50,000) and 0.10 (168 smileys); so had varied faces, beside 0.02 to 0.13 (smileys,
# three demos). Recall alone does not tell them apart, nor does a precision as low as that.
LOW_RECALL, FAIR_PRECISION = 0.01, 0.2
FALL_FROM, FALL_TO = 0.1, 0.25  # or: recall has been as high as this, and falls below this share of its best


class RecallWatch:
    """Looks at the precision and recall of a run's snapshots, where these are measured.

    A network that has just begun has no recall either, so a low one counts from the middle of the run on.
    """

    def __init__(self):
        self.best, self.warned = 0.0, False

    def state_dict(self):
        return {"best": self.best, "warned": self.warned}

    def load_state_dict(self, state):
        self.best, self.warned = state["best"], state["warned"]

    def warning(self, results, kimg, length):
        """A line when recall is near 0 while precision is not, or falls sharply, once; else None.

        results: figures of a metric by name. length: of the run, in kimg.
        """
        ends = {name.rpartition("_")[2]: value for name, value in results.items()}
        if self.warned or not {"precision", "recall"} <= ends.keys():
            return None
        precision, recall, best = ends["precision"], ends["recall"], self.best
        self.best = max(best, recall)
        low = recall < LOW_RECALL and precision > FAIR_PRECISION and kimg >= length / 2
        fallen = best >= FALL_FROM and recall < best * FALL_TO
        if not low and not fallen:
            return None
        self.warned = True
        what = f"recall fell from {best:.2g} to {recall:.2g}" if fallen else f"recall is {recall:.2g}"
        return (
            f"at {kimg:g} kimg {what} beside a precision of {precision:.2g}: samples cover little of the data (mode "
            "collapse). If they look alike in the newest sheet, take the best snapshot so far (best.json), or train "
            "anew with a larger --gamma, ten times this one"
        )
