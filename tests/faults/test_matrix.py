"""One test a row of the fault matrix. PENSTOCK_FAULTS=full runs every row, else the smoke rows."""

import pytest

from tests.faults import (  # noqa: F401
    matrix, rows_clients, rows_failpoints, rows_host, rows_logs, rows_memory, rows_network, rows_processes, rows_redis,
    rows_upstream, rows_versions)


def chosen():
    """The rows of this run. Those whose tools are not on this machine are named, neither passed nor skipped."""
    for name, entry in sorted(matrix.ROWS.items()):
        why = entry.needs() if entry.needs else None
        if why:
            matrix.not_here(name, entry.what, why)
            del matrix.ROWS[name]
    wanted = sorted(matrix.ROWS)
    return [name for name in wanted if matrix.MODE == "full" or matrix.ROWS[name].smoke]


@pytest.mark.parametrize("name", chosen())
def test_row(name):
    entry = matrix.ROWS[name]
    try:
        result = matrix.execute(entry)
    except matrix.Void:
        matrix.RESULTS.append((entry, {}, "VOID"))
        raise
    except BaseException:
        matrix.RESULTS.append((entry, {}, "FAILED"))
        raise
    matrix.RESULTS.append((entry, result, "held"))
