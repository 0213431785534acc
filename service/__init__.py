"""Builds and snapshots, and the facade that every front end calls."""

from service.facade import DemoInfo, Found, NothingCompared, Service, open_service
from service.messages import user_message
from service.settings import Settings, SettingsInvalid
from service.snapshot import BuildRunning, Snapshot, SnapshotDamaged, SnapshotMissing

__all__ = [
    "BuildRunning",
    "DemoInfo",
    "Found",
    "NothingCompared",
    "Service",
    "Settings",
    "SettingsInvalid",
    "Snapshot",
    "SnapshotDamaged",
    "SnapshotMissing",
    "open_service",
    "user_message",
]
