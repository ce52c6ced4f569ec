"""The judgement on the rows of a job that were rejected."""

from __future__ import annotations

from tasks.core.errors import DataRejected
from tasks.scoring.boxed import Totals

_SHOWN = 3


def require_few_rejected(totals: Totals, most: float) -> None:
    """Refuse a result with too many rejected rows.

    Args:
        totals: The numbers of rows.
        most: The greatest share of rejected rows.

    Raises:
        DataRejected: There are more.
    """
    if totals.rejected <= most * totals.rows:
        return
    frequent = sorted(totals.problems.items(), key=lambda item: -item[1][0])[:_SHOWN]
    reasons = "; ".join(
        f"{reason} ({count:,} rows, such as {', '.join(rows)})"
        for reason, (count, rows) in frequent
    )
    raise DataRejected(
        f"{totals.rejected:,} of {totals.rows:,} rows are rejected, more than max_rejected ="
        f" {most:g} allows: {reasons}",
        state="nothing was published",
        next_step="correct the source, or raise `max_rejected`, then run the flow again",
    )
