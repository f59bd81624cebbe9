"""``pc.explain``: every name is there, whatever was imported before, and nothing heavy is loaded to find out."""

import subprocess
import sys

import paddle_cait as pc


def test_every_name_is_what_it_is_called():
    import paddle_cait.explain.methods  # noqa: F401  loads every module: a module of a function's name would hide it

    for name in dir(pc.explain):
        found = getattr(pc.explain, name)
        assert callable(found) and found.__name__ == name and found.__doc__


def test_importing_loads_neither_paddle_nor_matplotlib():
    program = (
        "import sys, paddle_cait as pc; pc.explain; dir(pc.explain); "
        "assert not {'paddle', 'matplotlib', 'cv2', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
