"""Several processes of ``paddle.distributed.launch`` as one; without it, the only one."""

from __future__ import annotations

import os
from typing import Any


def join_processes() -> tuple[int, int]:
    """(rank, number of processes) of ``paddle.distributed.launch``; (0, 1) without it."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) < 2:
        return 0, 1
    import paddle.distributed as dist

    if not dist.is_initialized():
        dist.init_parallel_env()
    return dist.get_rank(), dist.get_world_size()


def barrier(world: int) -> None:
    if world > 1:
        import paddle.distributed as dist

        dist.barrier()


def gather(item: Any, world: int) -> list[Any]:
    """Every process's ``item``, in order of rank, in every process."""
    if world == 1:
        return [item]
    import paddle.distributed as dist

    items: list[Any] = []
    dist.all_gather_object(items, item)
    return items
