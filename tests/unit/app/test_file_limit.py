from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tunnel_server.app.file_limit import fitting
from tunnel_server.app.settings import Settings


@pytest.mark.parametrize("files", [20_000, 1_048_576])
def test_where_there_are_files_enough_all_stays(files: int) -> None:
    with capture_logs() as logs:
        assert fitting(Settings(), files) == Settings()

    assert logs == []


@pytest.mark.parametrize("files", [1, 64, 65, 100, 1024, 4096])
def test_connections_never_need_more_files_than_there_are(files: int) -> None:
    with capture_logs() as logs:
        fitted = fitting(Settings(), files)

    counts = (fitted.max_visitors, fitted.max_handshakes, fitted.max_unauthenticated)
    assert min(counts) > 0
    assert sum(counts) <= max(files - 64, 3)
    assert logs[0]["max_visitors"] == fitted.max_visitors


def test_what_is_lower_already_stays() -> None:
    fitted = fitting(Settings(max_visitors=5, max_handshakes=5, max_unauthenticated=500), 1024)

    assert (fitted.max_visitors, fitted.max_handshakes, fitted.max_unauthenticated) == (5, 5, 96)
