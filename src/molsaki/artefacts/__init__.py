"""What stages leave on disk for one another, written so that a kill or a full disk loses nothing finished.

Whole files appear under their name only when they are complete; logs of rows grow by whole rows; a run
directory belongs to one recipe and to one process at a time. Nothing here is pickled, and nothing here needs
PyTorch, so that every command can look into a run at once.
"""

from molsaki.artefacts.fingerprints import fingerprint, require_same, versions
from molsaki.artefacts.locks import exclusive_lock
from molsaki.artefacts.row_log import RowLog
from molsaki.artefacts.run_directory import RunDirectory
from molsaki.artefacts.whole_files import disk_is_full, read_json, refuse_write, write_json, write_whole

__all__ = [
    "RowLog",
    "RunDirectory",
    "disk_is_full",
    "exclusive_lock",
    "fingerprint",
    "read_json",
    "refuse_write",
    "require_same",
    "versions",
    "write_json",
    "write_whole",
]
