"""Ingest a directory over and over until killed. Arguments: state database, directory of logs."""

import sys
from pathlib import Path

from streamtrain.dataset.store import Store
from streamtrain.ingest.ingestor import IngestOptions, Ingestor
from streamtrain.ingest.schema import Schema

schema = Schema()
store = Store(Path(sys.argv[1]), schema.digest)
ingestor = Ingestor(store, schema, IngestOptions(Path(sys.argv[2]), commit_bytes=1 << 14))
sys.stdout.write("ready\n")
sys.stdout.flush()
while True:
    ingestor.run()
