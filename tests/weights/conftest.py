"""What several files here begin with: a shrunk CaiT's preset, drawn weights for it, bytes as a file."""

import pytest
from helpers import draw_state, official_shapes, preset


@pytest.fixture
def tiny(tmp_path):
    return preset(tmp_path)


@pytest.fixture
def state(tiny):
    return draw_state(official_shapes(tiny))


@pytest.fixture
def saved(tmp_path):
    def save(data, name="checkpoint"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return save
