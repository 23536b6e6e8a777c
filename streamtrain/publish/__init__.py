"""Publishing: a candidate becomes files, the files a version, a version the current one. Every step is recorded."""
