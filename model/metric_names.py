"""Name what evaluate measures: the values of `gate.metric`."""

# Whether more of it is better; of what `train.metrics` adds, always.
METRICS: dict[str, dict[str, bool]] = {
    "classification": {
        "accuracy": True,
        "balanced_accuracy": True,
        "f1_macro": True,
        "log_loss": False,
    },
    "regression": {"mae": False, "rmse": False, "r2": True},
}


def get_metric_name(scorer: str) -> str:
    """Return the name of a scorer in reports; of a function of your own, without its module."""
    return scorer.rpartition(".")[2]


def find_directions(task: str, scorers: list[str]) -> dict[str, bool]:
    """Find all metrics of a task, with those added, and whether more of each is better."""
    return METRICS[task] | dict.fromkeys(map(get_metric_name, scorers), True)


def find_repeated(task: str, scorers: list[str]) -> int | None:
    """Find the first scorer whose name is one of a metric already; None if there is none."""
    names = list(METRICS[task])
    for i, scorer in enumerate(scorers):
        if get_metric_name(scorer) in names:
            return i
        names.append(get_metric_name(scorer))
    return None
