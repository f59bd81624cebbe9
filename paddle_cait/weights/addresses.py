"""Where a preset's checkpoint is to be had: the authors' address, a mirror's, or the Hugging Face hub."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from paddle_cait.errors import ConfigError
from paddle_cait.presets import CheckpointSource, Preset, list_presets
from paddle_cait.weights.http_source import DownloadError, check_address

MIRROR, HUB_ENDPOINT = "PADDLE_CAIT_MIRROR", "HF_ENDPOINT"
_HUB = "huggingface.co"


def source_of(preset: Preset) -> CheckpointSource:
    """The preset's file. Raises :class:`DownloadError` if none is known."""
    if preset.checkpoint is None:
        told = f"; {preset.published.source} may say where they are" if preset.published else ""
        raise DownloadError(
            f"{preset.full_name}: no file is known of these weights{told}: give your copy with --weights FILE"
        )
    return preset.checkpoint


def official_address(preset: Preset) -> str:
    """Where the authors offer the file. Raises :class:`DownloadError` where nobody wrote that down."""
    source = source_of(preset)
    if not source.url:
        names = " or ".join((source.filename, *source.other_files))
        raise DownloadError(f"{preset.full_name}: no address is known of {names}: give the file with --weights FILE")
    remote = hub_file(source)
    return f"https://{_HUB}/{remote[0]}/resolve/main/{remote[1]}" if remote else source.url


def addresses(preset: Preset, mirror: str | None = None) -> list[str]:
    """Where to ask for a preset's file, in this order: on a mirror under its path, then under its name alone."""
    address, name = official_address(preset), source_of(preset).filename
    parts = urlsplit(address)
    mirror = mirror or os.environ.get(MIRROR)
    if mirror:
        check_address(mirror)
        found = [mirror.rstrip("/") + parts.path]
        others = (p.checkpoint for p in list_presets() if p.full_name != preset.full_name)
        if all(other is None or other.filename != name for other in others):  # which ViT-B_16.npz would it be?
            found.append(f"{mirror.rstrip('/')}/{name}")
        return found
    endpoint = os.environ.get(HUB_ENDPOINT)
    if endpoint and parts.hostname == _HUB:
        check_address(endpoint)
        return [endpoint.rstrip("/") + parts.path]
    return [address]


def hub_file(source: CheckpointSource) -> tuple[str, str] | None:
    """(repository, file) on the Hugging Face hub, of a file's address there or of a repository's own."""
    parts = urlsplit(source.url or "")
    words = parts.path.strip("/").split("/")
    if parts.hostname != _HUB:
        return None
    if len(words) == 2:
        return "/".join(words), "model.safetensors"
    return ("/".join(words[:2]), "/".join(words[4:])) if words[2:4] == ["resolve", "main"] else None


def from_hub(source: CheckpointSource, part: Path) -> str:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ConfigError("--hub: huggingface_hub is missing: pip install 'paddle_cait[hub]'") from error
    repository, name = hub_file(source) or ("", "")
    staging = part.with_name(".hub")  # stays after an error: huggingface_hub resumes what it finds there
    try:
        arrived = hf_hub_download(repository, name, local_dir=staging)
    except Exception as error:  # whatever its HTTP library of the day raises
        line = next(iter(str(error).strip().splitlines()), "")[:200]
        raise DownloadError(f"{repository}/{name} on the hub: {type(error).__name__}: {line}") from error
    Path(arrived).replace(part)
    shutil.rmtree(staging, ignore_errors=True)
    return f"{repository}/{name}"
