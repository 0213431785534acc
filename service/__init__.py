"""Builds and snapshots, and the facade that every front end calls."""

from service.facade import (
    DemoInfo,
    DemoPending,
    Found,
    LiveService,
    NothingCompared,
    Service,
    draw_figure,
    open_service,
)
from service.messages import user_message
from service.settings import Settings, SettingsInvalid
from service.snapshot import BuildRunning, Snapshot, SnapshotDamaged, SnapshotMissing

__all__ = [
    "BuildRunning",
    "DemoInfo",
    "DemoPending",
    "Found",
    "LiveService",
    "NothingCompared",
    "Service",
    "Settings",
    "SettingsInvalid",
    "Snapshot",
    "SnapshotDamaged",
    "SnapshotMissing",
    "draw_figure",
    "open_service",
    "user_message",
]
