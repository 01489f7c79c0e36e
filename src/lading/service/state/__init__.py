"""What the service remembers: one SQLite file in WAL mode. Knows records, not what they mean."""

from lading.service.state.database import Key, Record, State, open_state

__all__ = ["Key", "Record", "State", "open_state"]
