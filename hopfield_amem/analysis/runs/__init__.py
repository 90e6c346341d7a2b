"""Studies of many runs, of which nothing is lost: one record per run, written where the run is done, by processes, Dask or Slurm alike.

    folder/<id>.json          a finished run: config, findings, environment; existence means done
    folder/<id>.failed.json   why a run failed; it is tried again next time
    folder/<id>.claim         who is at a run now, with a heartbeat; a claim that no longer beats holds nobody up
    folder/<id>.corrupt       a record that could not be read, moved aside

An id is a hash of the work's name, the schema of records and the config. Nothing rests on locks: were a run done twice at once, the second record replaces the
first whole, and both are of the same config (of the same numbers where the work depends on it alone; runs that are trained together differ by rounding).
"""

from .collect import collect
from .executors import Dask, Here, Processes, Submitit, slurm
from .folder import records
from .identity import Record, Work
from .progress import progress
from .status import Status, status
from .sweep import shard, take
from .tasks import Together

__all__ = [
    "Dask", "Here", "Processes", "Record", "Status", "Submitit", "Together", "Work", "collect", "progress", "records", "shard", "slurm", "status", "take",
]  # fmt: skip
