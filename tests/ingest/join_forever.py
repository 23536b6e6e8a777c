"""Join decisions and outcomes over and over, committing often, until killed; arguments: database, directory of logs."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import trajectories

from streamtrain.dataset.store import Store
from streamtrain.ingest.ingestor import IngestOptions, Ingestor

schema = trajectories.schema()
store = Store(Path(sys.argv[1]), schema.digest)
ingestor = Ingestor(store, schema, IngestOptions(Path(sys.argv[2]), commit_bytes=1 << 12))
sys.stdout.write("ready\n")
sys.stdout.flush()
while True:
    ingestor.run()
